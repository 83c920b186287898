// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <linux/kernel.h>
#include <linux/limits.h>

#include <libvfio.h>

/* Not all of them have all of these. */
static void set_attribute(const char *dir, const char *file, const char *value)
{
	int ret = __sysfs_write(dir, file, value);

	VFIO_ASSERT_TRUE(!ret || ret == -ENOENT, "%s/%s: %s\n", dir, file,
			 strerror(-ret));
}

int fail_nth_open(void)
{
	static const char * const dirs[] = {
		"/sys/kernel/debug/failslab",
		"/sys/kernel/debug/fail_page_alloc",
		"/sys/kernel/debug/fail_usercopy",
	};
	char path[PATH_MAX];
	u32 i;

	for (i = 0; i < ARRAY_SIZE(dirs); i++) {
		set_attribute(dirs[i], "ignore-gfp-wait", "N");
		set_attribute(dirs[i], "ignore-gfp-highmem", "N");
		set_attribute(dirs[i], "verbose", "0");
	}

	snprintf_assert(path, sizeof(path), "/proc/self/task/%d/fail-nth",
			gettid());

	return open(path, O_RDWR | O_CLOEXEC);
}

void fail_nth_begin(int fd, u32 nth)
{
	char buf[16];
	int len = snprintf(buf, sizeof(buf), "%u", nth);

	VFIO_ASSERT_EQ(pwrite(fd, buf, len, 0), len);
}

bool fail_nth_end(int fd)
{
	char buf[16];
	bool failed;

	/* A fault that is still to come can hit these two. */
	failed = pread(fd, buf, sizeof(buf), 0) > 0 && buf[0] == '0';
	while (pwrite(fd, "0", 1, 0) != 1)
		;

	return failed;
}
