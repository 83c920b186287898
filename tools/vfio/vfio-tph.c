// SPDX-License-Identifier: GPL-2.0-only
/*
 * vfio-tph - show what the user of a device under vfio can do with PCIe TLP
 * Processing Hints (TPH), and the Steering Tags of CPUs
 *
 * Documentation/userspace-api/vfio-tph.rst tells what it all means.
 */
#define _FILE_OFFSET_BITS 64	/* Offsets in the file of a device need more than 32 */

#include <ctype.h>
#include <endian.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/ioctl.h>

#include <linux/pci_regs.h>
#include <linux/vfio.h>

#define PCI_DEVICES	"/sys/bus/pci/devices"
#define EXT_CONFIG	0x100
#define EXT_CONFIG_END	0x1000

struct device {
	char name[40];
	int fd;
	off_t config;		/* Where config space is in the file */
	unsigned int tph;	/* Where the capability is there, 0 without */
	int error;		/* Why there is no TPH, 0 if there is */
	__u32 flags;		/* VFIO_DEVICE_TPH_CAP_* */
	__u32 hw_cap;		/* Capability register before the opt-in */
	__u32 cap;		/* and after it */
};

static const char usage[] =
"Usage: vfio-tph DEVICE           show what its user can do with TPH\n"
"       vfio-tph DEVICE cpu N...  show the Steering Tags of CPUs\n"
"\n"
"DEVICE is the PCI address, as 0000:01:00.0, of a device that is bound to\n"
"vfio-pci or another vfio driver. Nobody may use it: it is opened, which resets\n"
"it. TPH stays off, and what is changed ends with the command.\n"
"\n"
"A tag that is \"none\" is one that the platform does not have for this CPU, and\n"
"\"blocked\" that a switch on the path blocks the TLP Prefixes of 16-bit tags.\n";

static unsigned int find_tph(int fd, off_t config)
{
	int ttl = (EXT_CONFIG_END - EXT_CONFIG) / 8;
	unsigned int pos = EXT_CONFIG;
	__u32 header;

	while (pos >= EXT_CONFIG && ttl--) {
		if (pread(fd, &header, 4, config + pos) != 4)
			return 0;

		header = le32toh(header);
		if (PCI_EXT_CAP_ID(header) == PCI_EXT_CAP_ID_TPH)
			return pos;

		pos = PCI_EXT_CAP_NEXT(header);
	}

	return 0;
}

/* The last component of what a link points to, NULL without the link */
static const char *link_target(const char *link)
{
	static char target[PATH_MAX];
	ssize_t len = readlink(link, target, sizeof(target) - 1);

	if (len < 0)
		return NULL;

	target[len] = 0;
	return basename(target);
}

/* Make sure that it can be opened, and go to its directory in sysfs. */
static void find_device(struct device *dev, const char *arg)
{
	unsigned int domain, bus, slot, fn;
	int end = 0;

	if (sscanf(arg, "%x:%2x:%2x.%1x%n", &domain, &bus, &slot, &fn, &end) != 4 ||
	    arg[end])
		errx(1, "%s: no PCI address, as 0000:01:00.0", arg);

	snprintf(dev->name, sizeof(dev->name), "%04x:%02x:%02x.%x", domain, bus,
		 slot, fn);
	if (chdir(PCI_DEVICES) || chdir(dev->name))
		errx(1, "%s: no such device", dev->name);

	if (access("vfio-dev", F_OK))
		errx(1, "%s: not bound to vfio-pci (driver: %s)", dev->name,
		     link_target("driver") ?: "none");
}

static void check_open(struct device *dev, const char *path, int ret)
{
	if (ret >= 0)
		return;

	if (errno == EBUSY)
		errx(1, "%s: in use, or a device of its IOMMU group is", dev->name);

	err(1, "%s: %s", dev->name, path);
}

/* Open by the character device: 0, or -1 if the kernel does not have these */
static int open_cdev(struct device *dev)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
	char path[PATH_MAX];
	glob_t found;

	if (glob("vfio-dev/vfio*", 0, NULL, &found))
		return -1;

	snprintf(path, sizeof(path), "/dev/vfio/devices/%s",
		 basename(found.gl_pathv[0]));
	globfree(&found);
	if (access(path, F_OK) || access("/dev/iommu", F_OK))
		return -1;

	dev->fd = open(path, O_RDWR | O_CLOEXEC);
	check_open(dev, path, dev->fd);
	bind.iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	check_open(dev, "/dev/iommu", bind.iommufd);
	if (ioctl(dev->fd, VFIO_DEVICE_BIND_IOMMUFD, &bind)) {
		/* So it is if somebody else has opened the character device. */
		if (errno == EINVAL)
			errno = EBUSY;
		check_open(dev, path, -1);
	}

	return 0;
}

static void open_group(struct device *dev)
{
	const char *number = link_target("iommu_group");
	int container, group;
	char path[PATH_MAX];

	if (!number)
		errx(1, "%s: no IOMMU group", dev->name);

	snprintf(path, sizeof(path), "/dev/vfio/%s", number);
	group = open(path, O_RDWR | O_CLOEXEC);
	check_open(dev, path, group);
	container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	check_open(dev, "/dev/vfio/vfio", container);
	check_open(dev, path, ioctl(group, VFIO_GROUP_SET_CONTAINER, &container));
	check_open(dev, path, ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
	dev->fd = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, dev->name);
	check_open(dev, path, dev->fd);
}

static int feature(struct device *dev, __u32 flags, void *data, size_t size)
{
	union {
		struct vfio_device_feature feature;
		char space[64];
	} buf = {};

	buf.feature.argsz = sizeof(buf.feature) + size;
	buf.feature.flags = flags;
	memcpy(buf.feature.data, data, size);

	if (ioctl(dev->fd, VFIO_DEVICE_FEATURE, &buf) < 0)
		return -errno;

	memcpy(data, buf.feature.data, size);
	return 0;
}

static int probe(struct device *dev, __u32 index)
{
	return feature(dev, VFIO_DEVICE_FEATURE_PROBE | index, &index, 0);
}

static __u32 read_cap(struct device *dev)
{
	__u32 cap;

	if (pread(dev->fd, &cap, 4, dev->config + dev->tph + PCI_TPH_CAP) != 4)
		err(1, "%s: config space", dev->name);

	return le32toh(cap);
}

static void open_device(struct device *dev)
{
	struct vfio_region_info info = {
		.argsz = sizeof(info),
		.index = VFIO_PCI_CONFIG_REGION_INDEX,
	};
	struct vfio_device_feature_tph tph = {};

	if (open_cdev(dev))
		open_group(dev);

	if (ioctl(dev->fd, VFIO_DEVICE_GET_REGION_INFO, &info))
		err(1, "%s: config space", dev->name);

	dev->config = info.offset;
	dev->tph = find_tph(dev->fd, dev->config);
	if (dev->tph)
		dev->hw_cap = read_cap(dev);

	dev->error = probe(dev, VFIO_DEVICE_FEATURE_TPH);
	if (dev->error)
		return;

	if (feature(dev, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_TPH, &tph,
		    sizeof(tph)) ||
	    feature(dev, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_TPH, &tph,
		    sizeof(tph)))
		err(1, "%s: opt-in", dev->name);

	dev->flags = tph.flags;
	dev->cap = read_cap(dev);
}

static const char *why_no_tph(struct device *dev)
{
	if (dev->error == -ENOTTY)
		return "the kernel or the driver is built without";

	if (dev->error != -EOPNOTSUPP)
		return strerror(-dev->error);

	return dev->tph ?
	       "the capability, the Root Port or the platform rules it out" :
	       "the device has no TPH Requester capability";
}

static const char *why_no_table(struct device *dev)
{
	if (dev->error)
		return why_no_tph(dev);

	if (!(dev->hw_cap & PCI_TPH_CAP_LOC_MASK))
		return "the device has no ST table";

	if (!(dev->hw_cap & (PCI_TPH_CAP_ST_IV | PCI_TPH_CAP_ST_DS)))
		return "the device has no mode that uses the ST table";

	return dev->hw_cap & PCI_TPH_CAP_ST_IV ?
	       "takes vfio_pci_core.tph=1, and a table that can be used" :
	       "takes vfio_pci_core.tph=2, and a table that can be used";
}

static const char *why_not_told(struct device *dev)
{
	if (dev->error)
		return why_no_tph(dev);

	/* With these the flag tells whether the platform has tags. */
	if (!(dev->flags & VFIO_DEVICE_TPH_CAP_CPU) &&
	    dev->cap & (PCI_TPH_CAP_LOC_MASK | PCI_TPH_CAP_ST_DS))
		return "the platform has none (_DSM of the host bridge)";

	return dev->hw_cap & PCI_TPH_CAP_ST_DS ?
	       "takes vfio_pci_core.tph=2, and a platform that has tags" :
	       "takes vfio_pci_core.tph=3 (no DS mode), and a platform that has tags";
}

static int resolve(struct device *dev, __u32 flags, __u32 cpu, char tag[8])
{
	struct vfio_device_feature_tph_resolve resolve = {
		.flags = flags,
		.src = cpu,
	};
	int ret = feature(dev, VFIO_DEVICE_FEATURE_GET |
			  VFIO_DEVICE_FEATURE_TPH_RESOLVE, &resolve,
			  sizeof(resolve));

	if (resolve.valid & VFIO_DEVICE_TPH_VALID_ST)
		snprintf(tag, 8, flags & VFIO_DEVICE_TPH_EXTENDED ? "0x%04x" :
			 "0x%02x", resolve.st);
	else
		snprintf(tag, 8, "none");

	return ret;
}

static void show_feature(struct device *dev, const char *name, __u32 index,
			 const char *unsupported)
{
	int ret = probe(dev, index);

	printf("  %-18s ", name);
	if (!ret)
		puts("yes");
	else if (ret == -EOPNOTSUPP)
		printf("no: %s\n", unsupported);
	else if (ret == -ENOTTY)
		puts("no: the kernel or the driver is built without");
	else
		printf("no: %s\n", strerror(-ret));
}

static void show_cap(const char *when, __u32 cap)
{
	__u32 loc = cap & PCI_TPH_CAP_LOC_MASK;

	printf("  %-18s 0x%08x modes:%s%s%s, tags: 8%s bits, ", when, cap,
	       cap & PCI_TPH_CAP_ST_NS ? " NS" : "",
	       cap & PCI_TPH_CAP_ST_IV ? " IV" : "",
	       cap & PCI_TPH_CAP_ST_DS ? " DS" : "",
	       cap & PCI_TPH_CAP_EXT_TPH ? " and 16" : "");
	if (loc == PCI_TPH_LOC_NONE)
		puts("no table");
	else
		printf("%u entries in %s\n",
		       ((cap & PCI_TPH_CAP_ST_MASK) >> PCI_TPH_CAP_ST_SHIFT) + 1,
		       loc == PCI_TPH_LOC_CAP ? "the capability" :
		       loc == PCI_TPH_LOC_MSIX ? "the MSI-X table" : "nowhere");
}

static void show(struct device *dev)
{
	char tag[8];
	int ret;

	puts("Features");
	show_feature(dev, "TPH", VFIO_DEVICE_FEATURE_TPH, why_no_tph(dev));
	show_feature(dev, "TPH_ST", VFIO_DEVICE_FEATURE_TPH_ST, why_no_table(dev));
	show_feature(dev, "TPH_RESOLVE", VFIO_DEVICE_FEATURE_TPH_RESOLVE,
		     why_not_told(dev));
	show_feature(dev, "DMA_BUF_TPH", VFIO_DEVICE_FEATURE_DMA_BUF_TPH,
		     "the device is no TPH Completer or exports no dma-bufs, or pci=notph");

	puts("Capability");
	if (dev->tph)
		show_cap("before the opt-in", dev->hw_cap);
	else
		puts("  none");
	if (dev->error)
		return;

	show_cap("after the opt-in", dev->cap);
	puts("Steering Tags");
	printf("  of CPUs            %s\n",
	       dev->flags & VFIO_DEVICE_TPH_CAP_CPU ? "yes" : "no");
	ret = resolve(dev, VFIO_DEVICE_TPH_SRC_CPU_VOLATILE, 0, tag);
	/* Whether there is a CPU 0, and for this task, is another question. */
	if (!ret || ret == -EINVAL || ret == -EPERM)
		puts("  told to the user   yes");
	else
		printf("  told to the user   no: %s\n",
		       ret == -EOPNOTSUPP ? why_not_told(dev) :
		       ret == -ENOTTY ? "the kernel is built without" :
		       strerror(-ret));
	printf("  literal            %s\n",
	       dev->flags & VFIO_DEVICE_TPH_CAP_LITERAL ? "yes" : "no");
}

/* Returns the exit status. */
static int show_cpu(struct device *dev, __u32 cpu)
{
	static const __u32 flags[] = {
		VFIO_DEVICE_TPH_SRC_CPU_VOLATILE,
		VFIO_DEVICE_TPH_SRC_CPU_PERSISTENT,
		VFIO_DEVICE_TPH_SRC_CPU_VOLATILE | VFIO_DEVICE_TPH_EXTENDED,
		VFIO_DEVICE_TPH_SRC_CPU_PERSISTENT | VFIO_DEVICE_TPH_EXTENDED,
	};
	int i, ret, kinds = dev->cap & PCI_TPH_CAP_EXT_TPH ? 4 : 2;
	char tags[4][8];

	for (i = 0; i < kinds; i++) {
		ret = resolve(dev, flags[i], cpu, tags[i]);
		if (!ret)
			continue;

		if (ret == -EOPNOTSUPP && i >= 2) {
			snprintf(tags[i], 8, "blocked");
			continue;
		}

		if (ret == -EOPNOTSUPP)
			errx(1, "%s: tags of CPUs are not told to the user: %s",
			     dev->name, why_not_told(dev));

		warnx("cpu %u: %s", cpu,
		      ret == -EINVAL ? "does not exist, or ACPI has no UID for it" :
		      ret == -EPERM ? "offline, or not in the cpuset of this task" :
		      strerror(-ret));
		return 1;
	}

	printf("cpu %u: 8-bit volatile %s persistent %s", cpu, tags[0], tags[1]);
	if (kinds == 4)
		printf(", 16-bit volatile %s persistent %s", tags[2], tags[3]);
	putchar('\n');

	return 0;
}

static __u32 parse_cpu(const char *arg)
{
	unsigned long cpu;
	char *end;

	errno = 0;
	cpu = strtoul(arg, &end, 10);
	if (!isdigit((unsigned char)*arg) || *end || errno || cpu > UINT_MAX)
		errx(1, "%s: no number of a CPU", arg);

	return cpu;
}

int main(int argc, char **argv)
{
	struct device dev = {};
	int i, status = 0;

	setlinebuf(stdout);
	if (argc == 2 && !strcmp(argv[1], "-h"))
		return fputs(usage, stdout) < 0;

	if (argc < 2 || *argv[1] == '-' || argc == 3 ||
	    (argc > 3 && strcmp(argv[2], "cpu")))
		errx(1, "usage: vfio-tph DEVICE [cpu N...]; -h tells more");

	/* What can be wrong is found before the device is reset. */
	find_device(&dev, argv[1]);
	for (i = 3; i < argc; i++)
		parse_cpu(argv[i]);

	open_device(&dev);
	if (argc == 2)
		show(&dev);
	else if (dev.error)
		errx(1, "%s: no TPH: %s", dev.name, why_no_tph(&dev));

	for (i = 3; i < argc; i++)
		status |= show_cpu(&dev, parse_cpu(argv[i]));

	return status;
}
