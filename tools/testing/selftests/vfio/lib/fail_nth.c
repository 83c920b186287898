// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
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

static const char * const dirs[] = {
	"/sys/kernel/debug/failslab",
	"/sys/kernel/debug/fail_page_alloc",
	"/sys/kernel/debug/fail_usercopy",
};

int fail_nth_open(void)
{
	char path[PATH_MAX];
	u32 i;

	for (i = 0; i < ARRAY_SIZE(dirs); i++) {
		set_attribute(dirs[i], "ignore-gfp-wait", "N");
		set_attribute(dirs[i], "ignore-gfp-highmem", "N");
		set_attribute(dirs[i], "verbose", "0");
		set_attribute(dirs[i], "reject-start", "0");
		set_attribute(dirs[i], "reject-end", "0");
	}

	snprintf_assert(path, sizeof(path), "/proc/self/task/%d/fail-nth",
			gettid());

	return open(path, O_RDWR | O_CLOEXEC);
}

/* The function's first address and the one behind it, 0 if there is none */
static void find_function(const char *function, unsigned long *start,
			  unsigned long *end)
{
	FILE *file = fopen("/proc/kallsyms", "re");
	char name[256];
	unsigned long addr;
	int pass;

	*start = 0;
	*end = ~0UL;
	if (!file)
		return;

	/* They are not in order. */
	for (pass = 0; pass < 2; pass++) {
		rewind(file);
		while (fscanf(file, "%lx %*c %255s%*[^\n]", &addr, name) == 2) {
			if (!strcmp(name, function))
				*start = addr;
			if (pass && addr > *start && addr < *end)
				*end = addr;
		}
	}

	fclose(file);
}

bool fail_nth_spare(const char *function)
{
	char buf[32];
	unsigned long start, end;
	u32 i;

	if (access("/sys/kernel/debug/failslab/reject-start", F_OK))
		return false;

	find_function(function, &start, &end);
	if (!start)
		return false;

	for (i = 0; i < ARRAY_SIZE(dirs); i++) {
		snprintf_assert(buf, sizeof(buf), "%#lx", start);
		set_attribute(dirs[i], "reject-start", buf);
		snprintf_assert(buf, sizeof(buf), "%#lx", end);
		set_attribute(dirs[i], "reject-end", buf);
	}

	return true;
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
