// SPDX-License-Identifier: GPL-2.0-only
/*
 * TPH through vfio-pci: the opt-in, the capability and control register that
 * the user sees, and the Steering Tag table.
 *
 * Without an argument the test builds simulated devices (pci-sim), and looks at
 * their registers and at their requests. Given the address of a device it uses
 * that, and skips what only a simulated device can show.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <linux/bitfield.h>
#include <linux/bits.h>
#include <linux/io.h>
#include <linux/limits.h>
#include <linux/pci_regs.h>
#include <linux/sizes.h>
#include <linux/vfio.h>

#include <libvfio.h>

#include "kselftest_harness.h"

/* The same for programs of 32 and of 64 bits */
static_assert(sizeof(struct vfio_device_feature_tph) == 4, "size");
static_assert(sizeof(struct vfio_device_feature_tph_st) == 16, "size");
static_assert(offsetof(struct vfio_device_feature_tph_st, dests) == 8, "offset");
static_assert(sizeof(struct vfio_device_feature_tph_resolve) == 12, "size");
static_assert(offsetof(struct vfio_device_feature_tph_resolve, st) == 10,
	      "offset");

#define SIM_NAME	"vfio_pci_tph_test"
#define SIM_EP		"hb0/rp0/ep0"

/* For accesses to fail */
#define ALWAYS		1000000

#define MAX_ENTRIES	64
#define MAX_BATCH	UINT16_MAX

/* Mode Select and TPH Requester Enable */
#define CTRL_OFF	PCI_TPH_CTRL_VALUE(PCI_TPH_ST_NS_MODE, \
					   PCI_TPH_REQ_DISABLE)
#define CTRL_NS		PCI_TPH_CTRL_VALUE(PCI_TPH_ST_NS_MODE, \
					   PCI_TPH_REQ_TPH_ONLY)
#define CTRL_NS_EXT	PCI_TPH_CTRL_VALUE(PCI_TPH_ST_NS_MODE, \
					   PCI_TPH_REQ_EXT_TPH)
#define CTRL_IV		PCI_TPH_CTRL_VALUE(PCI_TPH_ST_IV_MODE, \
					   PCI_TPH_REQ_TPH_ONLY)
#define CTRL_IV_OFF	PCI_TPH_CTRL_VALUE(PCI_TPH_ST_IV_MODE, \
					   PCI_TPH_REQ_DISABLE)
#define CTRL_IV_EXT	PCI_TPH_CTRL_VALUE(PCI_TPH_ST_IV_MODE, \
					   PCI_TPH_REQ_EXT_TPH)
#define CTRL_DS		PCI_TPH_CTRL_VALUE(PCI_TPH_ST_DS_MODE, \
					   PCI_TPH_REQ_TPH_ONLY)
#define CTRL_DS_EXT	PCI_TPH_CTRL_VALUE(PCI_TPH_ST_DS_MODE, \
					   PCI_TPH_REQ_EXT_TPH)

#define SRC_DMABUF	VFIO_DEVICE_TPH_SRC_DMABUF
#define SRC_NONE	VFIO_DEVICE_TPH_SRC_NONE
#define SRC_CPU_V	VFIO_DEVICE_TPH_SRC_CPU_VOLATILE
#define SRC_CPU_P	VFIO_DEVICE_TPH_SRC_CPU_PERSISTENT
#define SRC_LITERAL	VFIO_DEVICE_TPH_SRC_LITERAL
#define REQUIRE_ST	VFIO_DEVICE_TPH_REQUIRE_ST
#define EXTENDED	VFIO_DEVICE_TPH_EXTENDED

#define KNOWN_FLAGS	(VFIO_DEVICE_TPH_SRC_MASK | REQUIRE_ST | EXTENDED)

/* What the firmware of the simulated host bridge \_SB.PSM0 answers */
#define TAG_V(_cpu)	(0x41 + cpu_uid(_cpu))
#define TAG_P(_cpu)	(0x81 + cpu_uid(_cpu))
#define XTAG_V(_cpu)	(0xa41 + cpu_uid(_cpu))
#define XTAG_P(_cpu)	(0xb81 + cpu_uid(_cpu))

static const char *device_bdf;

/* What this kernel has at all: the series that brings TPH can be cut short. */
static struct {
	bool st;
	bool resolve;
	bool ext;
	bool dma_buf;
} kernel;

struct tph_device {
	char bdf[PCI_SIM_BDF_SIZE];

	/* Simulated devices only */
	struct pci_sim *sim;
	struct pci_sim_trace *trace;
	const char *ep;
	u64 violations;
	/* The one that was opened before */
	struct tph_device *next;
	/* VFs only */
	const char *vf_token;
	/* Opened before, with the IOMMU and the memory that this one uses, too */
	struct tph_device *beside;

	struct iommu *iommu;
	struct iova_allocator *iova_allocator;
	struct vfio_pci_device *device;
	struct dma_region region;

	int level;
	/* Of the hardware's capability: offset, capability register, length */
	u16 pos;
	u32 cap;
	u16 len;
	int nr_msix;

	/* The table of a simulated device when the trace was started */
	u16 table[MAX_ENTRIES];
};

/* --- ACPI Processor UIDs, which need not be the numbers of the CPUs --- */

#define MAX_CPUS	8

/* Return -1 without this information. */
static int cpu_apic_id(u32 cpu)
{
	unsigned int processor = ~0u, id;
	FILE *file = fopen("/proc/cpuinfo", "re");
	char line[256];
	int ret = -1;

	VFIO_ASSERT_NOT_NULL(file);
	while (ret < 0 && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "processor : %u", &id) == 1)
			processor = id;
		else if (processor == cpu &&
			 sscanf(line, "apicid : %u", &id) == 1)
			ret = id;
	}
	fclose(file);

	return ret;
}

/* The UID as the firmware's table says, not as the kernel understood it */
static int madt_uid(int apic_id)
{
	u8 table[SZ_4K], *entry;
	int fd, ret = -1;
	ssize_t size;

	fd = open("/sys/firmware/acpi/tables/APIC", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	size = read(fd, table, sizeof(table));
	VFIO_ASSERT_EQ(close(fd), 0);

	/* The entries for Processor Local APICs are type 0, length 8. */
	for (entry = table + 44; entry + 8 <= table + size && entry[1];
	     entry += entry[1])
		if (entry[0] == 0 && entry[3] == apic_id)
			ret = entry[2];

	return ret;
}

static u32 cpu_uid(u32 cpu)
{
	static u32 uids[MAX_CPUS];
	static bool known[MAX_CPUS];
	int apic_id, uid;

	if (cpu >= MAX_CPUS)
		return cpu;

	if (!known[cpu]) {
		apic_id = cpu_apic_id(cpu);
		uid = apic_id < 0 ? -1 : madt_uid(apic_id);
		uids[cpu] = uid < 0 ? cpu : uid;
		known[cpu] = true;
	}

	return uids[cpu];
}

#define VFIO_PCI_PARAMETERS	"/sys/module/vfio_pci/parameters"

/* What it was before the first test */
static char enable_sriov[2] = "N";

/* A test that has failed may have left something without its teardown. */
static void undo(void)
{
	/* A hierarchy keeps vfio-pci in use. */
	if (!device_bdf && pci_sim_available())
		pci_sim_remove(SIM_NAME);

	__sysfs_write(VFIO_PCI_PARAMETERS, "enable_sriov", enable_sriov);
	/* Or the next suspend would be a test */
	__sysfs_write("/sys/power", "pm_test", "none");
}

/* Fork a child that ends with the test, which exits where something fails. */
static pid_t fork_child(void)
{
	pid_t test = getpid(), child = fork();

	VFIO_ASSERT_GE(child, 0);
	if (child)
		return child;

	VFIO_ASSERT_EQ(prctl(PR_SET_PDEATHSIG, SIGKILL), 0);
	if (getppid() != test)
		_exit(255);

	return 0;
}

/* --- What a device should show --- */

static u32 cap_loc(u32 cap)
{
	return cap & PCI_TPH_CAP_LOC_MASK;
}

/*
 * The capability register after the opt-in, where the path to the Root Port
 * carries Extended TPH
 */
static u32 shown_cap(u32 cap, int level)
{
	u32 table = cap & (PCI_TPH_CAP_LOC_MASK | PCI_TPH_CAP_ST_MASK);
	u32 shown = cap & PCI_TPH_CAP_ST_NS;

	if (level >= 1 && kernel.ext)
		shown |= cap & PCI_TPH_CAP_EXT_TPH;
	if (level >= 1 && cap_loc(cap))
		shown |= cap & PCI_TPH_CAP_ST_IV;
	if (level >= 2)
		shown |= cap & PCI_TPH_CAP_ST_DS;
	if (cap_loc(cap) && shown & (PCI_TPH_CAP_ST_IV | PCI_TPH_CAP_ST_DS))
		shown |= table;

	return shown;
}

/* The result of a feature that is not granted, or not in this kernel */
static int denied(bool known)
{
	return known ? -EOPNOTSUPP : -ENOTTY;
}

static bool has_table(struct tph_device *d)
{
	return cap_loc(shown_cap(d->cap, d->level));
}

static bool has_ext(struct tph_device *d)
{
	return shown_cap(d->cap, d->level) & PCI_TPH_CAP_EXT_TPH;
}

/* Whether the tags of CPUs are told to the user */
static bool resolves(struct tph_device *d)
{
	return d->level >= 3 ||
	       shown_cap(d->cap, d->level) & PCI_TPH_CAP_ST_DS;
}

/* Whether there is any source that is told: a dma-buf has hints at each level. */
static bool has_resolve(struct tph_device *d)
{
	return kernel.dma_buf || resolves(d);
}

static int nr_entries(struct tph_device *d)
{
	int nr = FIELD_GET(PCI_TPH_CAP_ST_MASK, d->cap) + 1;

	if (cap_loc(d->cap) == PCI_TPH_LOC_MSIX)
		return min(nr, d->nr_msix);

	return cap_loc(d->cap) == PCI_TPH_LOC_CAP ? nr : 0;
}

/* How many entries share a dword of config space, and so an access */
static u32 nr_dwords(struct tph_device *d, int start, int count)
{
	if (cap_loc(d->cap) != PCI_TPH_LOC_CAP)
		return 0;

	return (start + count - 1) / 2 - start / 2 + 1;
}

/* Enabled, in the mode that the table is for, if the user may have it */
static u32 ctrl_on(struct tph_device *d)
{
	return has_table(d) ? CTRL_IV : CTRL_NS;
}

/* --- Opening, and the views of the state --- */

static void tph_open(struct tph_device *d)
{
	d->iommu = d->beside ? d->beside->iommu : iommu_init(default_iommu_mode);
	d->device = vfio_pci_device_init_vf(d->bdf, d->iommu, d->vf_token);
}

static void tph_close(struct tph_device *d)
{
	if (d->beside) {
		vfio_pci_device_cleanup(d->device);
		d->device = NULL;
		return;
	}

	if (d->region.vaddr) {
		iommu_unmap(d->iommu, &d->region);
		VFIO_ASSERT_EQ(munmap(d->region.vaddr, d->region.size), 0);
		iova_allocator_cleanup(d->iova_allocator);
		memset(&d->region, 0, sizeof(d->region));
	}

	vfio_pci_device_cleanup(d->device);
	iommu_cleanup(d->iommu);
	d->device = NULL;
}

static void tph_reopen(struct tph_device *d)
{
	tph_close(d);
	tph_open(d);
}

static u32 raw_read(struct tph_device *d, u16 offset)
{
	u32 value;

	sysfs_config_access(d->bdf, false, d->pos + offset, sizeof(value),
			    &value);

	return value;
}

static void raw_write(struct tph_device *d, u16 offset, u32 value)
{
	sysfs_config_access(d->bdf, true, d->pos + offset, sizeof(value),
			    &value);
}

static int write_device(struct tph_device *d, const char *file,
			const char *value)
{
	char dir[PATH_MAX];

	snprintf_assert(dir, sizeof(dir), "/sys/bus/pci/devices/%s", d->bdf);

	return __sysfs_write(dir, file, value);
}

static u32 user_read(struct tph_device *d, u16 offset)
{
	return vfio_pci_config_readl(d->device, d->pos + offset);
}

static u32 hw_ctrl(struct tph_device *d)
{
	if (d->sim)
		return pci_sim_tph_ctrl(d->sim, d->ep);

	return raw_read(d, PCI_TPH_CTRL);
}

/* Return how many there are, of which at most MAX_ENTRIES are stored. */
static int hw_entries(struct tph_device *d, u16 *entries)
{
	memset(entries, 0, MAX_ENTRIES * sizeof(*entries));

	return pci_sim_st_table(d->sim, d->ep, entries, MAX_ENTRIES);
}

static void hw_table(struct tph_device *d, u16 *entries)
{
	int nr = hw_entries(d, entries);

	VFIO_ASSERT_GE(nr, nr_entries(d));
}

static void debugfs_path(struct tph_device *d, char path[PATH_MAX])
{
	snprintf_assert(path, PATH_MAX, "/sys/kernel/debug/vfio/%s/pci/tph",
			d->bdf);
}

/*
 * Find the line of the device's file in debugfs that begins with @item. Return
 * false if there is none, or no such file: the test "debugfs" looks for that.
 */
static bool debugfs_line(struct tph_device *d, const char *item, char *line,
			 int size)
{
	char path[PATH_MAX];
	bool found = false;
	FILE *file;

	debugfs_path(d, path);
	file = fopen(path, "re");
	if (!file)
		return false;

	while (!found && fgets(line, size, file))
		found = !strncmp(line, item, strlen(item));
	fclose(file);

	return found;
}

/* The lines of debugfs, without that of the path */
static const char *debugfs_read(struct tph_device *d, char *buf, size_t size)
{
	char path[PATH_MAX], *lines;
	size_t len;
	FILE *file;

	debugfs_path(d, path);
	file = fopen(path, "re");
	if (!file)
		return NULL;

	len = fread(buf, 1, size - 1, file);
	fclose(file);
	buf[len] = 0;
	lines = strchr(buf, '\n');
	VFIO_ASSERT_NOT_NULL(lines);

	return lines + 1;
}

/*
 * The hardware, the user's view and the kernel's agree. The kernel may set the
 * hardware right when the user looks, so see that there is nothing to set right.
 */
static void check_ctrl(struct tph_device *d, u32 ctrl)
{
	char line[128];

	VFIO_ASSERT_EQ(hw_ctrl(d), ctrl);
	VFIO_ASSERT_EQ(user_read(d, PCI_TPH_CTRL), ctrl);
	VFIO_ASSERT_EQ(hw_ctrl(d), ctrl);
	if (debugfs_line(d, "PCI core: ", line, sizeof(line)))
		VFIO_ASSERT_EQ(strtoul(line + strlen("PCI core: "), NULL, 0),
			       ctrl);
}

/* Return 0 or -errno. */
static int try_ctrl(struct tph_device *d, u32 ctrl)
{
	ssize_t ret;

	ret = pwrite(d->device->fd, &ctrl, sizeof(ctrl),
		     d->device->config_space.offset + d->pos + PCI_TPH_CTRL);

	return ret < 0 ? -errno : 0;
}

/* Choose mode and type, and see that this worked. */
static void set_ctrl(struct tph_device *d, u32 ctrl)
{
	vfio_pci_config_writel(d->device, d->pos + PCI_TPH_CTRL, ctrl);
	check_ctrl(d, ctrl);
}

static void check_hw_table(struct tph_device *d, const u16 *expected)
{
	u16 entries[MAX_ENTRIES];
	int i;

	hw_table(d, entries);
	for (i = 0; i < nr_entries(d); i++)
		VFIO_ASSERT_EQ(entries[i], expected[i], "Entry %d\n", i);
}

/* Return the Linux interrupt of an MSI-X vector, or -1. */
static int vector_irq(struct tph_device *d, u32 vector)
{
	FILE *file = fopen("/proc/interrupts", "re");
	char line[1024], name[64];
	int irq, ret = -1;

	VFIO_ASSERT_NOT_NULL(file);
	snprintf_assert(name, sizeof(name), "vfio-msix[%u](%s)", vector, d->bdf);
	while (ret < 0 && fgets(line, sizeof(line), file))
		if (strstr(line, name) && sscanf(line, "%d:", &irq) == 1)
			ret = irq;
	fclose(file);

	return ret;
}

/* The tag that is kept for an entry, for the requests that @ctrl is about */
static u16 kept_tag(const char *lines, int entry, u32 ctrl)
{
	bool ext = FIELD_GET(PCI_TPH_CTRL_REQ_EN_MASK, ctrl) ==
		   PCI_TPH_REQ_EXT_TPH;
	char item[32], *end;
	const char *line;
	u16 tag;

	snprintf_assert(item, sizeof(item), "\nentry %d: ", entry);
	line = strstr(lines, item);
	if (!line)
		return 0;

	tag = strtoul(line + strlen(item), &end, 0);

	return !strncmp(end, ", extended", strlen(", extended")) == ext ? tag : 0;
}

/*
 * The table holds what debugfs says that is kept, if it says that. In the MSI-X
 * table entries with a vector do, and those without are 0.
 */
static void check_kept(struct tph_device *d)
{
	bool in_msix = cap_loc(d->cap) == PCI_TPH_LOC_MSIX;
	static const char core[] = "\nPCI core: ";
	u16 entries[MAX_ENTRIES], kept;
	const char *lines, *line;
	char buf[SZ_4K];
	u32 ctrl;
	int i;

	lines = has_table(d) ? debugfs_read(d, buf, sizeof(buf)) : NULL;
	line = lines ? strstr(lines, core) : NULL;
	if (!line)
		return;

	ctrl = strtoul(line + strlen(core), NULL, 0);
	hw_table(d, entries);
	for (i = 0; i < nr_entries(d); i++) {
		kept = kept_tag(lines, i, ctrl);
		/* A vector without an eventfd is none that can be seen. */
		if (entries[i] == kept ||
		    (!entries[i] && in_msix && vector_irq(d, i) < 0))
			continue;

		VFIO_ASSERT_EQ(entries[i], kept, "Entry %d\n", i);
	}
}

/* The user sees these tags in config space. */
static void check_view(struct tph_device *d, const u16 *tags)
{
	u8 view[MAX_ENTRIES * 2];
	int i;

	vfio_pci_config_access(d->device, false, d->pos + PCI_TPH_BASE_SIZEOF,
			       nr_entries(d) * 2, view);
	for (i = 0; i < nr_entries(d); i++)
		VFIO_ASSERT_EQ(view[2 * i] | view[2 * i + 1] << 8, tags[i],
			       "Entry %d\n", i);
}

/* The hardware first: the kernel may set it right when the user looks. */
static void check_table(struct tph_device *d, const u16 *expected)
{
	if (!d->sim)
		return;

	check_hw_table(d, expected);
	if (!d->device)
		return;

	check_kept(d);
	if (d->level >= 3 && cap_loc(d->cap) == PCI_TPH_LOC_CAP)
		check_view(d, expected);
}

static const u16 no_tags[MAX_ENTRIES];

static void check_table_zero(struct tph_device *d)
{
	check_table(d, no_tags);
}

static int probe(struct tph_device *d, u16 feature)
{
	return __vfio_device_feature_probe(d->device->fd, feature);
}

/*
 * Each level comes with what came before, so only a kernel that ends with level 1
 * has to show whether it has Extended TPH.
 */
static void find_kernel(struct tph_device *d)
{
	kernel.st = probe(d, VFIO_DEVICE_FEATURE_TPH_ST) != -ENOTTY;
	kernel.resolve = probe(d, VFIO_DEVICE_FEATURE_TPH_RESOLVE) != -ENOTTY;
	kernel.ext = kernel.resolve;
	kernel.dma_buf = probe(d, VFIO_DEVICE_FEATURE_DMA_BUF_TPH) != -ENOTTY;
	VFIO_ASSERT_TRUE(kernel.st || d->level < 1);
	VFIO_ASSERT_TRUE(kernel.resolve || d->level < 2);

	if (kernel.ext || !d->level || probe(d, VFIO_DEVICE_FEATURE_TPH))
		return;

	vfio_pci_tph_opt_in(d->device);
	kernel.ext = user_read(d, PCI_TPH_CAP) & PCI_TPH_CAP_EXT_TPH;
	tph_reopen(d);
}

static void find_cap(struct tph_device *d)
{
	d->pos = vfio_pci_find_ext_cap(d->device, PCI_EXT_CAP_ID_TPH);
	find_kernel(d);
	if (!d->pos)
		return;

	d->cap = raw_read(d, PCI_TPH_CAP);
	d->nr_msix = d->device->msix_info.count;
	d->len = PCI_TPH_BASE_SIZEOF;
	if (cap_loc(d->cap) == PCI_TPH_LOC_CAP)
		d->len += (FIELD_GET(PCI_TPH_CAP_ST_MASK, d->cap) + 1) * 2;
}

/* --- CPUs and tags --- */

static int nr_possible_cpus(void)
{
	FILE *file = fopen("/sys/devices/system/cpu/possible", "re");
	int first = 0, last = 0, ret;

	VFIO_ASSERT_NOT_NULL(file);
	ret = fscanf(file, "%d-%d", &first, &last);
	VFIO_ASSERT_GT(ret, 0);
	fclose(file);

	return (last ?: first) + 1;
}

/* The second CPU to ask for. Without one tests still run, but show less. */
static u32 other_cpu(void)
{
	return sysconf(_SC_NPROCESSORS_ONLN) > 1 ? 1 : 0;
}

static void fill_cpus(u32 *cpus, int count, u32 cpu)
{
	int i;

	for (i = 0; i < count; i++)
		cpus[i] = cpu;
}

static void fill_tags(u16 *tags, int start, int count, u16 tag)
{
	int i;

	for (i = start; i < start + count; i++)
		tags[i] = tag;
}

static int try_st(struct tph_device *d, u32 flags, int start, int count,
		  const u32 *dests)
{
	return __vfio_pci_tph_st(d->device, flags, start, count, dests);
}

/* Program @count entries with the tag of @cpu. */
static void program(struct tph_device *d, int start, int count, u32 cpu)
{
	u32 cpus[MAX_ENTRIES];

	fill_cpus(cpus, count, cpu);
	vfio_pci_tph_st(d->device, SRC_CPU_V, start, count, cpus);
}

/* MSI-X entries exist while their vectors do. */
static void enable_vectors(struct tph_device *d)
{
	if (cap_loc(d->cap) == PCI_TPH_LOC_MSIX &&
	    d->device->msi_eventfds[0] < 0)
		vfio_pci_msix_enable(d->device, 0, nr_entries(d));
}

/* Opt in, and where there is a table fill it with the tag of CPU 0. */
static void tph_start(struct tph_device *d)
{
	vfio_pci_tph_opt_in(d->device);
	set_ctrl(d, ctrl_on(d));

	if (!has_table(d))
		return;

	enable_vectors(d);
	program(d, 0, nr_entries(d), 0);
}

/* The same with TPH off: the table is filled all the same. */
static void tph_start_off(struct tph_device *d)
{
	tph_start(d);
	set_ctrl(d, CTRL_OFF);
}

static void check_filled(struct tph_device *d, u32 ctrl)
{
	u16 tags[MAX_ENTRIES];

	fill_tags(tags, 0, MAX_ENTRIES, has_table(d) ? TAG_V(0) : 0);
	check_ctrl(d, ctrl);
	check_table(d, tags);
}

static void check_started(struct tph_device *d)
{
	check_filled(d, ctrl_on(d));
}

/* --- The trace of config accesses --- */

struct cap_accesses {
	u32 all;	/* to the capability */
	u32 ctrl;	/* to the control register */
	u32 cleared;	/* Requester Enable was */
	u32 set;	/* Requester Enable was */
};

static u32 merge_ctrl(struct tph_device *d, u32 ctrl,
		      const struct pci_sim_record *record)
{
	u32 i, shift;

	for (i = 0; i < record->len; i++) {
		shift = (record->addr + i - d->pos - PCI_TPH_CTRL) * 8;
		if (shift >= 32)
			continue;

		ctrl &= ~(0xffu << shift);
		ctrl |= (record->value >> (i * 8) & 0xff) << shift;
	}

	return ctrl & (PCI_TPH_CTRL_MODE_SEL_MASK | PCI_TPH_CTRL_REQ_EN_MASK);
}

/* What a write to the control register did: disable, change, enable */
static void account_ctrl(struct cap_accesses *accesses, u32 old, u32 new)
{
	bool was_on = old & PCI_TPH_CTRL_REQ_EN_MASK;
	bool on = new & PCI_TPH_CTRL_REQ_EN_MASK;

	if (was_on)
		VFIO_ASSERT_EQ(old & PCI_TPH_CTRL_MODE_SEL_MASK,
			       new & PCI_TPH_CTRL_MODE_SEL_MASK,
			       "The mode changed while TPH was on\n");
	if (was_on && on)
		VFIO_ASSERT_EQ(old, new, "The type changed while TPH was on\n");

	accesses->cleared += was_on && !on;
	accesses->set += !was_on && on;
}

static void trace_start(struct tph_device *d)
{
	if (!d->trace)
		return;

	hw_entries(d, d->table);
	pci_sim_trace_start(d->trace);
}

/* @ctrl is the control register at the start; returns it at the end. */
static u32 trace_stop(struct tph_device *d, u32 ctrl,
		      struct cap_accesses *accesses)
{
	const struct pci_sim_record *record;
	size_t i;
	u32 new;

	pci_sim_trace_stop(d->trace);
	*accesses = (struct cap_accesses) {
		.all = pci_sim_trace_count_config(d->trace, d->bdf, d->pos,
						  d->len),
		.ctrl = pci_sim_trace_count_config(d->trace, d->bdf,
						   d->pos + PCI_TPH_CTRL, 4),
	};

	for (i = 0; i < d->trace->nr; i++) {
		record = &d->trace->records[i];
		if (record->type != PCI_SIM_CFG_WRITE ||
		    record->fate != PCI_SIM_FATE_OK ||
		    !pci_sim_record_config(record, d->bdf,
					   d->pos + PCI_TPH_CTRL, 4))
			continue;

		new = merge_ctrl(d, ctrl, record);
		account_ctrl(accesses, ctrl, new);
		ctrl = new;
	}

	return ctrl;
}

/*
 * Nothing was done to the device's capability since trace_start(), nor to a
 * table in MSI-X, where accesses leave no record.
 */
static void check_untouched(struct tph_device *d)
{
	struct cap_accesses accesses;
	u16 entries[MAX_ENTRIES];
	int i;

	if (!d->trace)
		return;

	trace_stop(d, 0, &accesses);
	VFIO_ASSERT_EQ(accesses.all, 0);

	hw_entries(d, entries);
	for (i = 0; i < MAX_ENTRIES; i++)
		VFIO_ASSERT_EQ(entries[i], d->table[i], "Entry %d\n", i);
}

/* The device has not been reset since trace_start(). */
static void check_not_reset(struct tph_device *d)
{
	size_t i;

	pci_sim_trace_stop(d->trace);
	for (i = 0; i < d->trace->nr; i++)
		VFIO_ASSERT_FALSE(d->trace->records[i].type == PCI_SIM_RESET &&
				  pci_sim_record_match(&d->trace->records[i],
						       d->bdf));
}

static u32 count_cap_writes(struct tph_device *d, u16 size)
{
	u32 count = 0;
	size_t i;

	pci_sim_trace_stop(d->trace);

	for (i = 0; i < d->trace->nr; i++)
		if (d->trace->records[i].type == PCI_SIM_CFG_WRITE)
			count += pci_sim_record_config(&d->trace->records[i],
						       d->bdf, d->pos, size);

	return count;
}

/* --- Requests of the simulated endpoint --- */

static void map_region(struct tph_device *d)
{
	d->region.size = SZ_4K;
	d->region.vaddr = mmap(NULL, d->region.size, PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	VFIO_ASSERT_NE(d->region.vaddr, MAP_FAILED);

	d->iova_allocator = iova_allocator_init(d->iommu);
	d->region.iova = iova_allocator_alloc(d->iova_allocator,
					      d->region.size);
	iommu_map(d->iommu, &d->region);
}

/*
 * Let the device write to memory, and return the request as the port saw it. @st
 * is for Device Specific mode without a table.
 */
static struct pci_sim_record dma_write_st(struct tph_device *d, u16 vector,
					  u8 ph, u16 st)
{
	struct pci_sim_desc desc = {
		.op = PCI_SIM_OP_WRITE,
		.src = 0x0123456789abcdef,
		.len = 64,
		.vector = vector,
		.ph = ph,
		.st = st,
	};
	const struct pci_sim_record *record;

	if (d->beside) {
		if (!d->beside->region.vaddr)
			map_region(d->beside);
		d->region = d->beside->region;
	}
	if (!d->region.vaddr)
		map_region(d);

	memset(d->region.vaddr, 0, d->region.size);
	desc.dst = d->region.iova;

	vfio_pci_cmd_set(d->device, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	pci_sim_trace_start(d->trace);
	VFIO_ASSERT_EQ(pci_sim_engine_run(d->device, &desc), 0);
	pci_sim_trace_stop(d->trace);

	VFIO_ASSERT_EQ(*(u64 *)d->region.vaddr, desc.src);

	record = pci_sim_trace_first_write(d->trace, d->bdf);
	VFIO_ASSERT_NOT_NULL(record);
	VFIO_ASSERT_EQ(record->fate, PCI_SIM_FATE_OK);
	VFIO_ASSERT_EQ(record->addr, d->region.iova);

	return *record;
}

static struct pci_sim_record dma_write(struct tph_device *d, u16 vector, u8 ph)
{
	return dma_write_st(d, vector, ph, 0);
}

static void check_no_hint(struct tph_device *d, u16 vector)
{
	struct pci_sim_record record = dma_write(d, vector, 1);

	VFIO_ASSERT_EQ(record.flags & PCI_SIM_RECORD_TH, 0);
}

static void check_hint(struct tph_device *d, u16 vector, u8 ph, u16 st,
		       bool ext)
{
	struct pci_sim_record record = dma_write(d, vector, ph);
	u8 flags = PCI_SIM_RECORD_TH | (ext ? PCI_SIM_RECORD_PREFIX : 0);

	VFIO_ASSERT_EQ(record.flags, flags, "Vector %u\n", vector);
	VFIO_ASSERT_EQ(record.ph, ph);
	VFIO_ASSERT_EQ(record.st, st, "Vector %u\n", vector);
}

/* --- One device, for each location of the table and each level --- */

FIXTURE(vfio_pci_tph_test) {
	struct tph_device d;
};

FIXTURE_VARIANT(vfio_pci_tph_test) {
	int level;
	u32 loc;
};

/* In this order the modules are reloaded once. */
FIXTURE_VARIANT_ADD(vfio_pci_tph_test, none_0) {
	.level = 0,
	.loc = PCI_TPH_LOC_NONE,
};

FIXTURE_VARIANT_ADD(vfio_pci_tph_test, cap_0) {
	.level = 0,
	.loc = PCI_TPH_LOC_CAP,
};

FIXTURE_VARIANT_ADD(vfio_pci_tph_test, msix_0) {
	.level = 0,
	.loc = PCI_TPH_LOC_MSIX,
};

FIXTURE_VARIANT_ADD(vfio_pci_tph_test, none_1) {
	.level = 1,
	.loc = PCI_TPH_LOC_NONE,
};

FIXTURE_VARIANT_ADD(vfio_pci_tph_test, cap_1) {
	.level = 1,
	.loc = PCI_TPH_LOC_CAP,
};

FIXTURE_VARIANT_ADD(vfio_pci_tph_test, msix_1) {
	.level = 1,
	.loc = PCI_TPH_LOC_MSIX,
};

FIXTURE_VARIANT_ADD(vfio_pci_tph_test, none_2) {
	.level = 2,
	.loc = PCI_TPH_LOC_NONE,
};

FIXTURE_VARIANT_ADD(vfio_pci_tph_test, cap_2) {
	.level = 2,
	.loc = PCI_TPH_LOC_CAP,
};

FIXTURE_VARIANT_ADD(vfio_pci_tph_test, msix_2) {
	.level = 2,
	.loc = PCI_TPH_LOC_MSIX,
};

FIXTURE_VARIANT_ADD(vfio_pci_tph_test, none_3) {
	.level = 3,
	.loc = PCI_TPH_LOC_NONE,
};

FIXTURE_VARIANT_ADD(vfio_pci_tph_test, cap_3) {
	.level = 3,
	.loc = PCI_TPH_LOC_CAP,
};

FIXTURE_VARIANT_ADD(vfio_pci_tph_test, msix_3) {
	.level = 3,
	.loc = PCI_TPH_LOC_MSIX,
};

static void sim_create(struct tph_device *d, u32 loc)
{
	char attrs[128];

	snprintf_assert(attrs, sizeof(attrs),
			"tph_modes=7 tph_ext=1 tph_loc=%u tph_st_size=15",
			(u32)FIELD_GET(PCI_TPH_CAP_LOC_MASK, loc));

	d->ep = SIM_EP;
	d->sim = pci_sim_init(SIM_NAME);
	pci_sim_add(d->sim, d->ep, attrs);
	pci_sim_set(d->sim, "hb0", "acpi_path", "\\_SB.PSM0");
	pci_sim_set_live(d->sim, true);
	pci_sim_bind_vfio(d->sim, d->ep, d->bdf);
	d->trace = pci_sim_trace_init();
	d->violations = pci_sim_violations();
}

static void sim_destroy(struct tph_device *d)
{
	if (!d->sim)
		return;

	/* No tag changes while TPH is on, whatever the test did. */
	VFIO_ASSERT_EQ(pci_sim_violations(), d->violations);

	pci_sim_trace_cleanup(d->trace);
	pci_sim_cleanup(d->sim);
}

/* Return NULL, or the reason why there is no such device. */
static const char *device_setup(struct tph_device *d, int level, u32 loc)
{
	const char *reason;

	if (!device_bdf && !pci_sim_available())
		return "No device was given, and pci_sim is not available";

	undo();
	reason = vfio_pci_tph_set_level(level);
	if (reason)
		return reason;

	d->level = level;

	if (device_bdf) {
		snprintf_assert(d->bdf, sizeof(d->bdf), "%s", device_bdf);
		sysfs_driver_bind(d->bdf, "vfio-pci");
	} else {
		sim_create(d, loc);
	}

	tph_open(d);
	find_cap(d);

	if (!d->pos)
		return "The device has no TPH capability";
	if (cap_loc(d->cap) != loc)
		return "The device has its table elsewhere";
	if (probe(d, VFIO_DEVICE_FEATURE_TPH))
		return "TPH is not available on the path to the device";

	return NULL;
}

static void device_teardown(struct tph_device *d)
{
	tph_close(d);
	sim_destroy(d);
}

FIXTURE_SETUP(vfio_pci_tph_test)
{
	const char *reason;

	reason = device_setup(&self->d, variant->level, variant->loc);
	if (reason)
		SKIP(return, "%s", reason);
}

FIXTURE_TEARDOWN(vfio_pci_tph_test)
{
	device_teardown(&self->d);
}

#define PROBE	VFIO_DEVICE_FEATURE_PROBE
#define GET	VFIO_DEVICE_FEATURE_GET
#define SET	VFIO_DEVICE_FEATURE_SET

/*
 * A TPH_ST or TPH_RESOLVE of zeros has no source: malformed, even if it is long
 * enough.
 */
TEST_F(vfio_pci_tph_test, feature_ops)
{
	static const struct {
		u32 flags;
		size_t size;
		int tph;
		int tph_st;
		int resolve;
	} ops[] = {
		{ PROBE,		0,	0,		0,		0 },
		{ PROBE | GET,		0,	0,		-EINVAL,	0 },
		{ PROBE | SET,		0,	0,		0,		-EINVAL },
		{ PROBE | GET | SET,	0,	0,		-EINVAL,	-EINVAL },
		{ 0,			64,	-EINVAL,	-EINVAL,	-EINVAL },
		{ GET,			0,	-EINVAL,	-EINVAL,	-EINVAL },
		{ GET,			3,	-EINVAL,	-EINVAL,	-EINVAL },
		{ GET,			4,	0,		-EINVAL,	-EINVAL },
		{ GET,			11,	0,		-EINVAL,	-EINVAL },
		{ GET,			64,	0,		-EINVAL,	-EINVAL },
		{ SET,			0,	-EINVAL,	-EINVAL,	-EINVAL },
		{ SET,			3,	-EINVAL,	-EINVAL,	-EINVAL },
		{ SET,			15,	0,		-EINVAL,	-EINVAL },
		{ SET,			64,	0,		-EINVAL,	-EINVAL },
	};
	int fd = self->d.device->fd, ret, i;
	bool table = has_table(&self->d);

	for (i = 0; i < ARRAY_SIZE(ops); i++) {
		u8 data[64] = {};

		ret = __vfio_device_feature(fd, ops[i].flags |
					    VFIO_DEVICE_FEATURE_TPH_ST,
					    data, ops[i].size);
		EXPECT_EQ(table ? ops[i].tph_st : denied(kernel.st), ret)
			TH_LOG("TPH_ST, case %d", i);

		ret = __vfio_device_feature(fd, ops[i].flags |
					    VFIO_DEVICE_FEATURE_TPH_RESOLVE,
					    data, ops[i].size);
		EXPECT_EQ(has_resolve(&self->d) ? ops[i].resolve :
						  denied(kernel.resolve), ret)
			TH_LOG("TPH_RESOLVE, case %d", i);

		ret = __vfio_device_feature(fd, ops[i].flags |
					    VFIO_DEVICE_FEATURE_TPH,
					    data, ops[i].size);
		EXPECT_EQ(ops[i].tph, ret)
			TH_LOG("TPH, case %d", i);
	}
}

TEST_F(vfio_pci_tph_test, feature_flags)
{
	bool table = has_table(&self->d);
	struct vfio_device_feature_tph tph;
	int fd = self->d.device->fd, bit, ret;
	u32 expected = 0;

	if (table || resolves(&self->d))
		expected |= VFIO_DEVICE_TPH_CAP_CPU;
	if (table && self->d.level >= 3)
		expected |= VFIO_DEVICE_TPH_CAP_LITERAL;

	/* GET needs no opt-in, and does not depend on it. */
	if (!self->d.sim)
		SKIP(return, "Needs a simulated device");
	ASSERT_EQ(expected, vfio_pci_tph_flags(self->d.device));

	for (bit = 0; bit < 32; bit++) {
		tph.flags = BIT(bit);
		ret = __vfio_device_feature_set(fd, VFIO_DEVICE_FEATURE_TPH,
						&tph, sizeof(tph));
		ASSERT_EQ(-EINVAL, ret);
	}

	vfio_pci_tph_opt_in(self->d.device);
	ASSERT_EQ(expected, vfio_pci_tph_flags(self->d.device));
}

/* A bad pointer is noticed where the structure is read. */
TEST_F(vfio_pci_tph_test, feature_fault)
{
	struct vfio_device_feature *feature;
	int fd = self->d.device->fd;
	void *pages;

	pages = mmap(NULL, 2 * SZ_4K, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, pages);
	ASSERT_EQ(0, munmap(pages + SZ_4K, SZ_4K));
	trace_start(&self->d);

	feature = pages + SZ_4K - sizeof(*feature);
	feature->argsz = SZ_4K;
	feature->flags = SET | VFIO_DEVICE_FEATURE_TPH;
	ASSERT_EQ(-1, ioctl(fd, VFIO_DEVICE_FEATURE, feature));
	ASSERT_EQ(EFAULT, errno);

	feature->flags = SET | VFIO_DEVICE_FEATURE_TPH_ST;
	ASSERT_EQ(-1, ioctl(fd, VFIO_DEVICE_FEATURE, feature));
	ASSERT_EQ(has_table(&self->d) ? EFAULT : -denied(kernel.st), errno);

	feature->flags = GET | VFIO_DEVICE_FEATURE_TPH_RESOLVE;
	ASSERT_EQ(-1, ioctl(fd, VFIO_DEVICE_FEATURE, feature));
	ASSERT_EQ(has_resolve(&self->d) ? EFAULT : -denied(kernel.resolve),
		  errno);

	check_untouched(&self->d);
	ASSERT_EQ(0, munmap(pages, SZ_4K));
}

/*
 * Call a feature with @size bytes of payload, in a buffer that goes on behind it
 * with ones, which stay.
 */
static int sized_feature(struct tph_device *d, u32 flags, const void *payload,
			 size_t payload_size, size_t size)
{
	struct vfio_device_feature *feature;
	u64 buf[16];
	size_t i;
	int ret;

	memset(buf, 0xff, sizeof(buf));
	feature = (void *)buf;
	feature->argsz = sizeof(*feature) + size;
	feature->flags = flags;
	memcpy(feature->data, payload, payload_size);

	ret = ioctl(d->device->fd, VFIO_DEVICE_FEATURE, feature);
	if (ret < 0)
		ret = -errno;

	for (i = sizeof(*feature) + payload_size; i < sizeof(buf); i++)
		VFIO_ASSERT_EQ(((u8 *)buf)[i], 0xff);

	return ret;
}

static void check_feature_size(struct tph_device *d, u32 flags,
			       const void *payload, size_t size, int ret)
{
	int too_small = ret < 0 ? ret : -EINVAL;

	VFIO_ASSERT_EQ(sized_feature(d, flags, payload, size, size), ret);
	VFIO_ASSERT_EQ(sized_feature(d, flags, payload, size, size + 8), ret);
	VFIO_ASSERT_EQ(sized_feature(d, flags, payload, size, size - 1),
		       too_small);
	VFIO_ASSERT_EQ(sized_feature(d, flags, payload, size, 0), too_small);
}

/* Room for less than the struct is refused, room for more is not used. */
TEST_F(vfio_pci_tph_test, feature_size)
{
	const struct vfio_device_feature_tph_resolve resolve = {
		.flags = SRC_CPU_V,
	};
	const struct vfio_device_feature_tph_st st = {
		.flags = SRC_NONE,
		.count = 1,
	};
	const struct vfio_device_feature_tph tph = {};
	struct tph_device *d = &self->d;

	vfio_pci_tph_opt_in(d->device);
	check_feature_size(d, SET | VFIO_DEVICE_FEATURE_TPH, &tph, sizeof(tph),
			   0);
	check_feature_size(d, GET | VFIO_DEVICE_FEATURE_TPH, &tph, sizeof(tph),
			   0);
	check_feature_size(d, SET | VFIO_DEVICE_FEATURE_TPH_ST, &st, sizeof(st),
			   has_table(d) ? 1 : denied(kernel.st));
	if (!resolves(d))
		return;
	check_feature_size(d, GET | VFIO_DEVICE_FEATURE_TPH_RESOLVE, &resolve,
			   sizeof(resolve), 0);
}

/* So is one that the answer cannot be written to. */
TEST_F(vfio_pci_tph_test, feature_fault_answer)
{
	struct vfio_device_feature_tph_resolve *resolve;
	struct vfio_device_feature *feature;
	int fd = self->d.device->fd;

	if (!self->d.sim)
		SKIP(return, "Needs a simulated device");
	vfio_pci_tph_opt_in(self->d.device);

	feature = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, feature);
	feature->argsz = sizeof(*feature) + sizeof(*resolve);
	feature->flags = GET | VFIO_DEVICE_FEATURE_TPH;
	ASSERT_EQ(0, mprotect(feature, SZ_4K, PROT_READ));
	ASSERT_EQ(-1, ioctl(fd, VFIO_DEVICE_FEATURE, feature));
	ASSERT_EQ(EFAULT, errno);

	ASSERT_EQ(0, mprotect(feature, SZ_4K, PROT_READ | PROT_WRITE));
	feature->flags = GET | VFIO_DEVICE_FEATURE_TPH_RESOLVE;
	resolve = (void *)feature->data;
	resolve->flags = SRC_CPU_V;
	resolve->src = 0;
	ASSERT_EQ(0, mprotect(feature, SZ_4K, PROT_READ));
	ASSERT_EQ(-1, ioctl(fd, VFIO_DEVICE_FEATURE, feature));
	ASSERT_EQ(resolves(&self->d) ? EFAULT : -denied(kernel.resolve), errno);
	ASSERT_EQ(0, munmap(feature, SZ_4K));
}

/* Before the opt-in the capability is the hardware's. */
static void check_image(struct tph_device *d)
{
	u8 user[PCI_TPH_BASE_SIZEOF + MAX_ENTRIES * 2], raw[sizeof(user)];
	int width, i;

	VFIO_ASSERT_LE(d->len, sizeof(user));
	sysfs_config_access(d->bdf, false, d->pos, d->len, raw);

	for (width = 1; width <= 4; width *= 2) {
		for (i = 0; i + width <= d->len; i += width)
			vfio_pci_config_access(d->device, false, d->pos + i,
					       width, user + i);

		/* The pointer to the next capability may skip a hidden one. */
		VFIO_ASSERT_EQ(user[0], raw[0]);
		VFIO_ASSERT_EQ(user[1], raw[1]);
		VFIO_ASSERT_EQ(user[2] & 0xf, raw[2] & 0xf);
		for (i = PCI_TPH_CAP; i + width <= d->len; i++)
			VFIO_ASSERT_EQ(user[i], raw[i], "Byte %d, width %d\n",
				       i, width);
	}
}

TEST_F(vfio_pci_tph_test, image_without_opt_in)
{
	struct tph_device *d = &self->d;
	int i;

	check_image(d);

	/* What nobody did through vfio shows as well. */
	for (i = PCI_TPH_BASE_SIZEOF; i + 4 <= d->len; i += 4)
		raw_write(d, i, 0x00330011 + i);
	raw_write(d, PCI_TPH_CTRL, CTRL_IV);
	check_image(d);
	ASSERT_EQ(CTRL_IV, user_read(d, PCI_TPH_CTRL));

	raw_write(d, PCI_TPH_CTRL, CTRL_OFF);
	for (i = PCI_TPH_BASE_SIZEOF; i + 4 <= d->len; i += 4)
		raw_write(d, i, 0);
}

static void write_everywhere(struct tph_device *d, u16 start)
{
	static const u32 ones = ~0u;
	int width, i;

	for (width = 1; width <= 4; width *= 2)
		for (i = start; i + width <= d->len; i++)
			vfio_pci_config_access(d->device, true, d->pos + i,
					       width, (void *)&ones);
}

TEST_F(vfio_pci_tph_test, writes_without_opt_in)
{
	struct tph_device *d = &self->d;

	trace_start(d);
	write_everywhere(d, 0);
	if (d->sim)
		VFIO_ASSERT_EQ(count_cap_writes(d, d->len), 0);

	ASSERT_EQ(CTRL_OFF, hw_ctrl(d));
	check_table_zero(d);
	check_image(d);
}

/* The opt-in changes the capability and nothing else in config space. */
TEST_F(vfio_pci_tph_test, opt_in)
{
	struct tph_device *d = &self->d;
	u8 before[PCI_CFG_SPACE_EXP_SIZE], after[sizeof(before)];
	int i;

	vfio_pci_config_access(d->device, false, 0, sizeof(before), before);

	/* Twice, since it is idempotent */
	vfio_pci_tph_opt_in(d->device);
	vfio_pci_tph_opt_in(d->device);
	vfio_pci_config_access(d->device, false, 0, sizeof(after), after);

	for (i = 0; i < sizeof(before); i++) {
		if (i >= d->pos + PCI_TPH_CAP && i < d->pos + d->len)
			continue;
		ASSERT_EQ(before[i], after[i])
			TH_LOG("Offset %#x", i);
	}

	ASSERT_EQ(shown_cap(d->cap, d->level), vfio_pci_tph_cap(d->device));
	check_ctrl(d, CTRL_OFF);
	check_table_zero(d);
}

/* The table in the capability cannot be seen or written, nor the register. */
TEST_F(vfio_pci_tph_test, read_only_parts)
{
	struct tph_device *d = &self->d;
	int i;

	tph_start(d);
	check_started(d);

	trace_start(d);
	for (i = 0; i < PCI_TPH_CTRL; i += 4)
		vfio_pci_config_writel(d->device, d->pos + i, ~0u);
	write_everywhere(d, PCI_TPH_BASE_SIZEOF);
	check_untouched(d);

	ASSERT_EQ(shown_cap(d->cap, d->level), user_read(d, PCI_TPH_CAP));
	for (i = PCI_TPH_BASE_SIZEOF; i < d->len; i += 2)
		VFIO_ASSERT_EQ(vfio_pci_config_readw(d->device, d->pos + i),
			       d->level >= 3 ? TAG_V(0) : 0);
	check_started(d);
}

/* A write that cannot be read is not done, and says so. */
TEST_F(vfio_pci_tph_test, config_write_fault)
{
	struct tph_device *d = &self->d;
	u64 config = d->device->config_space.offset;
	u16 msix = vfio_pci_find_cap(d->device, PCI_CAP_ID_MSIX);
	u64 pos = config + d->pos;
	int opted_in, i;
	void *bad;

	bad = mmap(NULL, SZ_4K, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, bad);

	for (opted_in = 0; opted_in <= 1; opted_in++) {
		if (opted_in)
			vfio_pci_tph_opt_in(d->device);

		trace_start(d);
		for (i = 0; i + 4 <= d->len; i += 4) {
			ASSERT_EQ(-1, pwrite(d->device->fd, bad, 4, pos + i));
			ASSERT_EQ(EFAULT, errno);
		}
		check_untouched(d);
	}

	/* Nor one to a capability that takes no writes at all */
	if (!msix)
		return;
	ASSERT_EQ(-1, pwrite(d->device->fd, bad, 4, config + msix));
	ASSERT_EQ(EFAULT, errno);
}

/*
 * Write @ctrl with an access of @width bytes at @offset of the capability. What
 * is not the control register is written as ones.
 */
static void write_ctrl(struct tph_device *d, u32 ctrl, int offset, int width)
{
	u8 bytes[4];
	int i, reg;

	for (i = 0; i < width; i++) {
		reg = offset + i - PCI_TPH_CTRL;
		bytes[i] = reg >= 0 && reg < 4 ? ctrl >> (reg * 8) : 0xff;
	}

	vfio_pci_config_access(d->device, true, d->pos + offset, width, bytes);
}

/* Each field by itself: the new value if it is written and may be chosen */
static u32 expected_ctrl(struct tph_device *d, u32 old, u32 new, int offset,
			 int width)
{
	u32 mode = FIELD_GET(PCI_TPH_CTRL_MODE_SEL_MASK, new);
	u32 req = FIELD_GET(PCI_TPH_CTRL_REQ_EN_MASK, new);
	u32 modes = shown_cap(d->cap, d->level) &
		    (PCI_TPH_CAP_ST_NS | PCI_TPH_CAP_ST_IV | PCI_TPH_CAP_ST_DS);
	u32 ctrl = old;

	if (offset <= PCI_TPH_CTRL && offset + width > PCI_TPH_CTRL &&
	    modes & BIT(mode))
		ctrl = (ctrl & ~PCI_TPH_CTRL_MODE_SEL_MASK) |
		       FIELD_PREP(PCI_TPH_CTRL_MODE_SEL_MASK, mode);

	if (offset <= PCI_TPH_CTRL + 1 && offset + width > PCI_TPH_CTRL + 1 &&
	    (req == PCI_TPH_REQ_DISABLE || req == PCI_TPH_REQ_TPH_ONLY ||
	     (req == PCI_TPH_REQ_EXT_TPH && has_ext(d))))
		ctrl = (ctrl & ~PCI_TPH_CTRL_REQ_EN_MASK) |
		       FIELD_PREP(PCI_TPH_CTRL_REQ_EN_MASK, req);

	return ctrl;
}

static void check_ctrl_write(struct tph_device *d, u32 old, u32 new,
			     int offset, int width)
{
	u32 expected = expected_ctrl(d, old, new, offset, width);
	struct cap_accesses accesses;

	set_ctrl(d, old);

	trace_start(d);
	write_ctrl(d, new, offset, width);
	if (d->sim)
		VFIO_ASSERT_EQ(trace_stop(d, old, &accesses), expected);

	VFIO_ASSERT_EQ(hw_ctrl(d), expected, "%#x at %d, width %d\n", new,
		       offset, width);
	check_ctrl(d, expected);
}

static void check_ctrl_writes(struct tph_device *d, u32 old, u32 new)
{
	int width, offset, end;

	for (width = 1; width <= 4; width *= 2) {
		offset = PCI_TPH_CTRL + 1 - width;
		end = min(PCI_TPH_CTRL + 4, d->len - width + 1);
		for (; offset < end; offset++)
			check_ctrl_write(d, old, new, offset, width);
	}
}

/* Each field by itself, and both at once: enough if only the start is another */
static void check_ctrl_fields(struct tph_device *d, u32 old, u32 new)
{
	check_ctrl_write(d, old, new, PCI_TPH_CTRL, 1);
	check_ctrl_write(d, old, new, PCI_TPH_CTRL + 1, 1);
	check_ctrl_write(d, old, new, PCI_TPH_CTRL, 4);
}

/* Can the user choose this? */
static bool can_choose(struct tph_device *d, u32 ctrl)
{
	return expected_ctrl(d, CTRL_OFF, ctrl, PCI_TPH_CTRL, 4) == ctrl;
}

TEST_F_TIMEOUT(vfio_pci_tph_test, control, 300)
{
	static const u32 olds[] = { CTRL_OFF, CTRL_NS, CTRL_IV, CTRL_IV_EXT };
	static const u32 others[] = { CTRL_NS_EXT, CTRL_DS, CTRL_DS_EXT };
	struct tph_device *d = &self->d;
	u32 new, i;

	if (!d->sim)
		SKIP(return, "Needs a simulated device");

	vfio_pci_tph_opt_in(d->device);

	for (i = 0; i < ARRAY_SIZE(olds); i++) {
		/* Reserved bits stay 0, whatever is written. */
		u32 reserved = i ? 0xfffffcf8 : 0;

		if (!can_choose(d, olds[i]))
			continue;

		for (new = 0; new < 8 * 4; new++)
			check_ctrl_writes(d, olds[i], reserved |
					  PCI_TPH_CTRL_VALUE(new % 8, new / 8));
	}

	for (i = 0; i < ARRAY_SIZE(others); i++)
		for (new = 0; can_choose(d, others[i]) && new < 8 * 4; new++)
			check_ctrl_fields(d, others[i],
					  PCI_TPH_CTRL_VALUE(new % 8, new / 8));
}

/* The result of a TPH_ST of one entry */
static int expected_st(struct tph_device *d, u32 flags, bool opted_in)
{
	if (!has_table(d))
		return denied(kernel.st);
	if (flags & ~KNOWN_FLAGS)
		return -EINVAL;
	if (__builtin_popcount(flags & VFIO_DEVICE_TPH_SRC_MASK) != 1)
		return -EINVAL;
	if (flags & SRC_NONE && flags & (REQUIRE_ST | EXTENDED))
		return -EINVAL;
	if (!opted_in)
		return -EPERM;
	if (flags & EXTENDED && !has_ext(d))
		return -EOPNOTSUPP;
	/* No dma-buf has the file descriptor 0. */
	if (flags & SRC_DMABUF)
		return kernel.dma_buf ? -EINVAL : -EOPNOTSUPP;
	if (flags & SRC_LITERAL && d->level < 3)
		return -EOPNOTSUPP;
	/* Literal 0 */
	if (flags & SRC_LITERAL && flags & REQUIRE_ST)
		return -ENOENT;
	return 1;
}

static void check_st_flags(struct tph_device *d, u32 flags, bool opted_in)
{
	int expected = expected_st(d, flags, opted_in), ret;
	u32 dest = 0;

	trace_start(d);
	ret = try_st(d, flags, 0, 1, &dest);
	VFIO_ASSERT_EQ(ret, expected, "Flags %#x, opted in %d\n", flags,
		       opted_in);

	if (ret < 0)
		check_untouched(d);
}

TEST_F_TIMEOUT(vfio_pci_tph_test, st_flags, 120)
{
	struct tph_device *d = &self->d;
	int opted_in, bit;
	u32 flags;

	if (!self->d.sim)
		SKIP(return, "Needs a simulated device");
	enable_vectors(d);

	for (opted_in = 0; opted_in <= 1; opted_in++) {
		if (opted_in)
			vfio_pci_tph_opt_in(d->device);

		for (flags = 0; flags <= KNOWN_FLAGS; flags++)
			check_st_flags(d, flags, opted_in);

		for (bit = 7; bit < 32; bit++)
			check_st_flags(d, BIT(bit) | SRC_NONE, opted_in);
	}
}

TEST_F(vfio_pci_tph_test, requests)
{
	struct tph_device *d = &self->d;
	u8 ph;

	if (!self->d.sim)
		SKIP(return, "Needs a simulated device");
	vfio_pci_tph_opt_in(d->device);
	check_no_hint(d, 0);

	set_ctrl(d, CTRL_NS);
	for (ph = 0; ph < 4; ph++)
		check_hint(d, 0, ph, 0, false);

	if (has_table(d)) {
		enable_vectors(d);
		program(d, 0, 1, 0);
		program(d, 3, 1, other_cpu());

		/* No ST mode has no use for the table. */
		check_hint(d, 3, 1, 0, false);

		set_ctrl(d, CTRL_IV);
		check_hint(d, 0, 2, TAG_V(0), false);
		check_hint(d, 1, 3, 0, false);
		check_hint(d, 3, 0, TAG_V(other_cpu()), false);

		vfio_pci_tph_st(d->device, SRC_CPU_P, 3, 1, (u32[]){ 0 });
		check_hint(d, 3, 1, TAG_P(0), false);
		vfio_pci_tph_st(d->device, SRC_NONE, 3, 1, NULL);
		check_hint(d, 3, 1, 0, false);
	}

	if (shown_cap(d->cap, d->level) & PCI_TPH_CAP_ST_DS) {
		struct pci_sim_record record;

		/* The tag is the device's own, unless it has a table. */
		set_ctrl(d, CTRL_DS);
		record = dma_write_st(d, 0, 1, 0x1234);
		ASSERT_EQ(has_table(d) ? TAG_V(0) : 0x34, record.st);
		set_ctrl(d, CTRL_DS_EXT);
		record = dma_write_st(d, 0, 1, 0x1234);
		ASSERT_EQ(has_table(d) ? 0 : 0x1234, record.st);
	}

	vfio_pci_tph_disable(d->device);
	check_no_hint(d, 0);
}

#define TOGGLES 20000

/* Another bit of the PCI core's about the device, in a process of its own */
static pid_t toggle_other_bit(struct tph_device *d)
{
	pid_t child = fork_child();
	char path[PATH_MAX];
	char value;
	int fd, i;

	if (child)
		return child;

	snprintf_assert(path, sizeof(path),
			"/sys/bus/pci/devices/%s/broken_parity_status", d->bdf);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		_exit(1);

	for (i = 0; i <= TOGGLES; i++) {
		const char *wanted = i % 2 ? "1" : "0";

		if (pwrite(fd, wanted, 1, 0) != 1 ||
		    pread(fd, &value, 1, 0) != 1 || value != *wanted)
			_exit(2);
	}
	_exit(0);
}

/* Turning TPH on and off changes nothing else, and is not changed by others. */
TEST_F_TIMEOUT(vfio_pci_tph_test, unrelated_bit, 120)
{
	struct tph_device *d = &self->d;
	int status, i = 0;
	pid_t child;

	vfio_pci_tph_opt_in(d->device);
	child = toggle_other_bit(d);
	while (!waitpid(child, &status, WNOHANG))
		vfio_pci_config_writel(d->device, d->pos + PCI_TPH_CTRL,
				       i++ % 2 ? CTRL_OFF : CTRL_NS);

	ASSERT_TRUE(WIFEXITED(status));
	ASSERT_EQ(0, WEXITSTATUS(status));
	ASSERT_GT(i, 1);
	check_ctrl(d, i % 2 ? CTRL_NS : CTRL_OFF);
}

/* A reset that the user did not ask for is none of the user's business. */
TEST_F(vfio_pci_tph_test, sysfs_reset)
{
	struct tph_device *d = &self->d;

	if (!(d->device->info.flags & VFIO_DEVICE_FLAGS_RESET))
		SKIP(return, "No device reset");

	tph_start(d);
	check_started(d);
	ASSERT_EQ(0, write_device(d, "reset", "1"));

	check_started(d);
	if (d->sim)
		check_hint(d, 0, 1, has_table(d) ? TAG_V(0) : 0, false);
}

static void set_power_state(struct tph_device *d, u16 state)
{
	u16 pm = vfio_pci_find_cap(d->device, PCI_CAP_ID_PM);
	u16 ctrl;

	VFIO_ASSERT_NE(pm, 0);
	ctrl = vfio_pci_config_readw(d->device, pm + PCI_PM_CTRL);
	ctrl = (ctrl & ~PCI_PM_CTRL_STATE_MASK) | state;
	vfio_pci_config_writew(d->device, pm + PCI_PM_CTRL, ctrl);
	ctrl = vfio_pci_config_readw(d->device, pm + PCI_PM_CTRL);
	VFIO_ASSERT_EQ(ctrl & PCI_PM_CTRL_STATE_MASK, state);
}

#define PM_D0		0
#define PM_D3HOT	3

/* What is set in D3hot is seen at once, and the device has it in D0. */
static void check_power_state(struct tph_device *d)
{
	u16 tags[MAX_ENTRIES];

	tph_start(d);
	check_started(d);

	set_power_state(d, PM_D3HOT);
	VFIO_ASSERT_EQ(user_read(d, PCI_TPH_CTRL), ctrl_on(d));
	set_power_state(d, PM_D0);
	check_started(d);

	set_power_state(d, PM_D3HOT);
	vfio_pci_config_writel(d->device, d->pos + PCI_TPH_CTRL, CTRL_OFF);
	VFIO_ASSERT_EQ(user_read(d, PCI_TPH_CTRL), CTRL_OFF);
	set_power_state(d, PM_D0);
	check_ctrl(d, CTRL_OFF);

	set_power_state(d, PM_D3HOT);
	vfio_pci_config_writel(d->device, d->pos + PCI_TPH_CTRL, ctrl_on(d));
	fill_tags(tags, 0, MAX_ENTRIES, has_table(d) ? TAG_V(0) : 0);
	if (has_table(d)) {
		vfio_pci_tph_st(d->device, SRC_CPU_P, 1, 2, (u32[]){ 0, 0 });
		fill_tags(tags, 1, 2, TAG_P(0));
	}
	VFIO_ASSERT_EQ(user_read(d, PCI_TPH_CTRL), ctrl_on(d));
	set_power_state(d, PM_D0);
	check_ctrl(d, ctrl_on(d));
	check_table(d, tags);
	if (d->sim)
		check_hint(d, 1, 1, tags[1], false);

	if (!has_table(d) || cap_loc(d->cap) != PCI_TPH_LOC_MSIX)
		return;

	/* Vectors that are freed there leave no tag. */
	set_power_state(d, PM_D3HOT);
	vfio_pci_msix_disable(d->device);
	set_power_state(d, PM_D0);
	check_ctrl(d, ctrl_on(d));
	check_table_zero(d);
	enable_vectors(d);
	check_table(d, tags);
}

TEST_F(vfio_pci_tph_test, power_state)
{
	if (!vfio_pci_find_cap(self->d.device, PCI_CAP_ID_PM))
		SKIP(return, "No power management");

	check_power_state(&self->d);
}

/* What a reset of the user's leaves: all off, but opted in */
static void check_reset(struct tph_device *d)
{
	check_ctrl(d, CTRL_OFF);
	check_table_zero(d);
	VFIO_ASSERT_EQ(user_read(d, PCI_TPH_CAP), shown_cap(d->cap, d->level));

	/* The kept table went, too. */
	set_ctrl(d, ctrl_on(d));
	check_table_zero(d);
	if (d->sim)
		check_hint(d, 0, 1, 0, false);

	if (!has_table(d))
		return;

	program(d, 0, 1, 0);
	if (d->sim && cap_loc(d->cap) == PCI_TPH_LOC_CAP)
		check_hint(d, 0, 1, TAG_V(0), false);
}

static void check_resets(struct tph_device *d,
			 void (*reset)(struct tph_device *d))
{
	tph_start_off(d);
	check_filled(d, CTRL_OFF);
	reset(d);
	check_reset(d);

	tph_start(d);
	check_started(d);
	reset(d);
	check_reset(d);
}

static void device_reset(struct tph_device *d)
{
	vfio_pci_device_reset(d->device);
}

TEST_F(vfio_pci_tph_test, device_reset)
{
	struct tph_device *d = &self->d;

	if (!(d->device->info.flags & VFIO_DEVICE_FLAGS_RESET))
		SKIP(return, "No device reset");

	check_resets(d, device_reset);
}

static void write_flr(struct tph_device *d)
{
	u16 devctl = vfio_pci_find_cap(d->device, PCI_CAP_ID_EXP) +
		     PCI_EXP_DEVCTL;

	vfio_pci_config_writew(d->device, devctl,
			       vfio_pci_config_readw(d->device, devctl) |
			       PCI_EXP_DEVCTL_BCR_FLR);
}

TEST_F(vfio_pci_tph_test, flr)
{
	struct tph_device *d = &self->d;
	u16 exp = vfio_pci_find_cap(d->device, PCI_CAP_ID_EXP);

	ASSERT_NE(0, exp);
	if (!(vfio_pci_config_readl(d->device, exp + PCI_EXP_DEVCAP) &
	      PCI_EXP_DEVCAP_FLR))
		SKIP(return, "No function level reset");

	check_resets(d, write_flr);
}

/* Returns 0 or -errno. */
static int try_hot_reset(struct tph_device *d)
{
	struct vfio_pci_hot_reset reset = { .argsz = sizeof(reset) };

	return ioctl(d->device->fd, VFIO_DEVICE_PCI_HOT_RESET, &reset) ?
	       -errno : 0;
}

static void hot_reset(struct tph_device *d)
{
	VFIO_ASSERT_EQ(try_hot_reset(d), 0);
}

TEST_F(vfio_pci_tph_test, hot_reset)
{
	if (!self->d.sim)
		SKIP(return, "Needs a simulated device");

	check_resets(&self->d, hot_reset);
}

#define COMMAND_ON	(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER)

/* The user is told of the error, and the device was reset then. */
TEST_F_TIMEOUT(vfio_pci_tph_test, fatal_aer_reaches_user, 120)
{
	struct pollfd pollfd = { .events = POLLIN };
	struct tph_device *d = &self->d;

	if (!d->sim)
		SKIP(return, "Needs a simulated device");

	tph_start(d);
	check_started(d);

	/* No register of the device tells of the reset: the kernel has to. */
	set_ctrl(d, CTRL_OFF);
	vfio_pci_cmd_clear(d->device, COMMAND_ON | PCI_COMMAND_IO);
	pollfd.fd = vfio_pci_err_enable(d->device);
	ASSERT_EQ(0, poll(&pollfd, 1, 0));

	pci_sim_error_reset(d->sim, d->ep, "fatal");
	ASSERT_EQ(1, poll(&pollfd, 1, 0));
	check_ctrl(d, CTRL_OFF);
	check_table_zero(d);

	vfio_pci_cmd_set(d->device, COMMAND_ON);
	check_reset(d);
	ASSERT_EQ(0, close(pollfd.fd));
}

/* The user does something that has to show that the device was reset. */
static void notice_by_read(struct tph_device *d)
{
	VFIO_ASSERT_EQ(user_read(d, PCI_TPH_CTRL), CTRL_OFF);
}

static void notice_by_command(struct tph_device *d)
{
	vfio_pci_cmd_set(d->device, COMMAND_ON);
	VFIO_ASSERT_EQ(hw_ctrl(d), CTRL_OFF);
}

/* Mode Select alone, so that Requester Enable would stay if it were still on */
static void notice_by_ctrl(struct tph_device *d)
{
	vfio_pci_config_writeb(d->device, d->pos + PCI_TPH_CTRL,
			       PCI_TPH_ST_NS_MODE);
	check_ctrl(d, CTRL_OFF);
}

static void notice_by_st(struct tph_device *d)
{
	if (has_table(d))
		vfio_pci_tph_st(d->device, SRC_NONE, 0, 1, NULL);
	else
		notice_by_read(d);
}

/* Vectors that are freed and made get no tag of before. */
static void notice_by_vectors(struct tph_device *d)
{
	if (d->device->msi_eventfds[0] < 0) {
		notice_by_read(d);
		return;
	}

	vfio_pci_msix_disable(d->device);
	enable_vectors(d);
	VFIO_ASSERT_EQ(hw_ctrl(d), CTRL_OFF);
	check_table_zero(d);
}

static void notice_by_close(struct tph_device *d)
{
	tph_close(d);
	VFIO_ASSERT_EQ(hw_ctrl(d), CTRL_OFF);
	tph_open(d);
	vfio_pci_tph_opt_in(d->device);
}

/* The device has no interrupts any more, but the kernel has vectors. */
static void free_vectors(struct tph_device *d)
{
	if (d->device->msi_eventfds[0] >= 0)
		vfio_pci_msix_disable(d->device);
}

static void check_noticed(struct tph_device *d, u16 command,
			  void (*notice)(struct tph_device *d))
{
	vfio_pci_cmd_clear(d->device, COMMAND_ON | PCI_COMMAND_IO);
	vfio_pci_cmd_set(d->device, command);
	tph_start(d);
	check_started(d);

	pci_sim_reset(d->sim, d->ep);
	VFIO_ASSERT_EQ(hw_ctrl(d), CTRL_OFF);
	notice(d);
	vfio_pci_cmd_set(d->device, COMMAND_ON);
	check_reset(d);

	free_vectors(d);
}

/* Resets that nobody announces are noticed the next time that it matters. */
TEST_F_TIMEOUT(vfio_pci_tph_test, backdoor_reset, 120)
{
	static void (* const notices[])(struct tph_device *d) = {
		notice_by_read, notice_by_command, notice_by_ctrl, notice_by_st,
		notice_by_vectors, notice_by_close,
	};
	struct tph_device *d = &self->d;
	u32 i;

	if (!d->sim)
		SKIP(return, "Needs a simulated device");

	for (i = 0; i < ARRAY_SIZE(notices); i++) {
		check_noticed(d, 0, notices[i]);
		check_noticed(d, COMMAND_ON, notices[i]);
	}
}

static void set_ctrl_after_reset(struct tph_device *d)
{
	if (!has_table(d) || cap_loc(d->cap) != PCI_TPH_LOC_MSIX) {
		set_ctrl(d, ctrl_on(d));
		return;
	}

	/* Without its BAR there is no table: the BAR comes with PCI_COMMAND. */
	vfio_pci_config_writel(d->device, d->pos + PCI_TPH_CTRL, ctrl_on(d));
	VFIO_ASSERT_EQ(user_read(d, PCI_TPH_CTRL), ctrl_on(d));
	VFIO_ASSERT_EQ(hw_ctrl(d), CTRL_OFF);
}

/*
 * With TPH off PCI_COMMAND alone can tell of it. If there is nothing in that
 * either, what is kept is written when TPH is turned on.
 */
TEST_F(vfio_pci_tph_test, backdoor_reset_while_off)
{
	static const u16 commands[] = { 0, COMMAND_ON };
	struct tph_device *d = &self->d;
	u32 i;

	if (!d->sim)
		SKIP(return, "Needs a simulated device");

	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		/* That came with the tables of both kinds. */
		if (!commands[i] && has_table(d) && !has_ext(d))
			continue;

		vfio_pci_cmd_clear(d->device, COMMAND_ON | PCI_COMMAND_IO);
		vfio_pci_cmd_set(d->device, commands[i]);
		tph_start_off(d);
		check_filled(d, CTRL_OFF);

		pci_sim_reset(d->sim, d->ep);
		check_hw_table(d, no_tags);
		set_ctrl_after_reset(d);
		if (commands[i])
			check_hw_table(d, no_tags);

		vfio_pci_cmd_set(d->device, COMMAND_ON);
		if (commands[i])
			check_table_zero(d);
		else
			check_started(d);
		check_hint(d, 0, 1, has_table(d) && !commands[i] ? TAG_V(0) : 0,
			   false);
		free_vectors(d);
	}
}

static void check_close(struct tph_device *d)
{
	int ret = has_table(d) ? -EPERM : denied(kernel.st);
	u32 cpu = 0;

	tph_close(d);
	VFIO_ASSERT_EQ(hw_ctrl(d), CTRL_OFF);
	check_table_zero(d);

	tph_open(d);
	check_ctrl(d, CTRL_OFF);
	check_table_zero(d);
	check_image(d);
	VFIO_ASSERT_EQ(user_read(d, PCI_TPH_CAP), d->cap);
	VFIO_ASSERT_EQ(try_st(d, SRC_CPU_V, 0, 1, &cpu), ret);
	vfio_pci_config_writel(d->device, d->pos + PCI_TPH_CTRL, CTRL_NS);
	check_ctrl(d, CTRL_OFF);

	/* Nothing was kept. */
	vfio_pci_tph_opt_in(d->device);
	check_ctrl(d, CTRL_OFF);
	enable_vectors(d);
	set_ctrl(d, ctrl_on(d));
	check_table_zero(d);
}

/* Closing gives everything back, and the next user starts from nothing. */
TEST_F(vfio_pci_tph_test, close)
{
	struct tph_device *d = &self->d;

	tph_start(d);
	check_started(d);
	check_close(d);

	tph_start_off(d);
	check_filled(d, CTRL_OFF);
	check_close(d);
}

/*
 * A device that nobody uses sleeps, and is restored when it wakes up. That would
 * undo what is to be found.
 */
static void keep_awake(struct tph_device *d, bool awake)
{
	VFIO_ASSERT_EQ(write_device(d, "power/control", awake ? "on" : "auto"),
		       0);
}

/* While nobody uses the device its table can be reached through sysfs. */
static void dirty_msix_table(struct tph_device *d)
{
	u16 entries[MAX_ENTRIES], cmd;
	char path[PATH_MAX];
	void *table, *ctrl;
	int fd, i;

	sysfs_config_access(d->bdf, false, PCI_COMMAND, sizeof(cmd), &cmd);
	cmd |= PCI_COMMAND_MEMORY;
	sysfs_config_access(d->bdf, true, PCI_COMMAND, sizeof(cmd), &cmd);

	snprintf_assert(path, sizeof(path),
			"/sys/bus/pci/devices/%s/resource%d", d->bdf,
			PCI_SIM_MSIX_BAR);
	fd = open(path, O_RDWR | O_CLOEXEC);
	VFIO_ASSERT_GE(fd, 0);
	table = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	VFIO_ASSERT_NE(table, MAP_FAILED);

	for (i = 0; i < nr_entries(d); i++) {
		ctrl = table + i * PCI_MSIX_ENTRY_SIZE +
		       PCI_MSIX_ENTRY_VECTOR_CTRL;
		writel(readl(ctrl) | 0x33 << 16, ctrl);
	}

	VFIO_ASSERT_EQ(munmap(table, SZ_4K), 0);
	VFIO_ASSERT_EQ(close(fd), 0);

	hw_table(d, entries);
	VFIO_ASSERT_EQ(entries[0], 0x33);
}

/* With the device awake */
static void leave_on(struct tph_device *d)
{
	int i;

	/* It may have been left on before. */
	raw_write(d, PCI_TPH_CTRL, CTRL_OFF);

	if (d->sim && cap_loc(d->cap) == PCI_TPH_LOC_MSIX)
		dirty_msix_table(d);

	for (i = PCI_TPH_BASE_SIZEOF; i + 4 <= d->len; i += 4)
		raw_write(d, i, 0x00220011);

	raw_write(d, PCI_TPH_CTRL, CTRL_NS);
	VFIO_ASSERT_EQ(hw_ctrl(d), CTRL_NS);
}

static void check_clean(struct tph_device *d)
{
	VFIO_ASSERT_EQ(hw_ctrl(d), CTRL_OFF);
	VFIO_ASSERT_EQ(user_read(d, PCI_TPH_CTRL), CTRL_OFF);
	check_table_zero(d);

	tph_start(d);
	check_started(d);
}

/* A host driver that left TPH on does not bother the user. */
TEST_F(vfio_pci_tph_test, left_on)
{
	struct tph_device *d = &self->d;

	tph_close(d);
	keep_awake(d, true);
	leave_on(d);
	tph_open(d);
	keep_awake(d, false);
	check_clean(d);
}

/* Nor does it on a device that cannot be reset when it is opened. */
TEST_F(vfio_pci_tph_test, left_on_without_reset)
{
	struct tph_device *d = &self->d;

	tph_close(d);
	VFIO_ASSERT_EQ(write_device(d, "reset_method", "\n"), 0);
	keep_awake(d, true);
	leave_on(d);
	tph_open(d);
	keep_awake(d, false);
	VFIO_ASSERT_EQ(write_device(d, "reset_method", "default"), 0);
	check_clean(d);

	/* It has been found out that it cannot, and that stays. */
	ASSERT_EQ(-EINVAL, __vfio_pci_device_reset(d->device));
	check_started(d);
}

/* A host driver that has tags programmed, and others than a user would have */
static void use_kernel_driver(struct tph_device *d)
{
	int importer, fd;
	u16 tags[MAX_ENTRIES] = {};

	fd = pci_sim_dmabuf_export(SZ_4K, 0);
	importer = pci_sim_dmabuf_open();
	pci_sim_dmabuf_attach(importer, fd, d->bdf);
	pci_sim_dmabuf_write(importer, 1, 0, 64);
	VFIO_ASSERT_EQ(close(importer), 0);
	VFIO_ASSERT_EQ(close(fd), 0);

	/* An MSI-X vector was there for the write alone. It took its tag along. */
	if (cap_loc(d->cap) == PCI_TPH_LOC_CAP)
		tags[0] = XTAG_V(0);
	check_table(d, tags);
}

/* The user leaves a device that a host driver can use, and vice versa. */
TEST_F(vfio_pci_tph_test, kernel_driver)
{
	struct tph_device *d = &self->d;

	if (!d->sim)
		SKIP(return, "Needs a simulated device");
	if (!pci_sim_dmabuf_available())
		SKIP(return, "pci_sim_dmabuf is not available");

	tph_start(d);
	check_started(d);
	tph_close(d);

	/* It enables all that there is, unless TPH is found to be enabled. */
	sysfs_driver_bind(d->bdf, PCI_SIM_DMABUF_DRIVER);
	ASSERT_EQ(CTRL_DS_EXT, hw_ctrl(d));
	check_table_zero(d);
	use_kernel_driver(d);

	sysfs_driver_bind(d->bdf, "vfio-pci");
	tph_open(d);
	check_clean(d);
}

/* --- Faults and races --- */

/* The lowest and the highest level have all that differs between levels. */
FIXTURE(vfio_pci_tph_life) {
	struct tph_device d;
};

FIXTURE_VARIANT(vfio_pci_tph_life) {
	int level;
	u32 loc;
};

FIXTURE_VARIANT_ADD(vfio_pci_tph_life, none) {
	.level = 0,
	.loc = PCI_TPH_LOC_NONE,
};

FIXTURE_VARIANT_ADD(vfio_pci_tph_life, cap) {
	.level = 3,
	.loc = PCI_TPH_LOC_CAP,
};

FIXTURE_VARIANT_ADD(vfio_pci_tph_life, msix) {
	.level = 3,
	.loc = PCI_TPH_LOC_MSIX,
};

FIXTURE_SETUP(vfio_pci_tph_life)
{
	const char *reason;

	reason = device_setup(&self->d, variant->level, variant->loc);
	if (reason)
		SKIP(return, "%s", reason);
}

FIXTURE_TEARDOWN(vfio_pci_tph_life)
{
	device_teardown(&self->d);
}

static int op_opt_in(struct tph_device *d)
{
	return __vfio_pci_tph_opt_in(d->device);
}

static int op_ctrl(struct tph_device *d)
{
	return try_ctrl(d, ctrl_on(d));
}

#define SWEPT_TAG	0x77

static int op_st(struct tph_device *d)
{
	u32 literals[MAX_ENTRIES];

	fill_cpus(literals, nr_entries(d), SWEPT_TAG);

	return try_st(d, SRC_LITERAL, 0, nr_entries(d), literals);
}

/* Another CPU than the one that the table is filled for */
static int op_st_cpus(struct tph_device *d)
{
	u32 cpus[MAX_ENTRIES];

	fill_cpus(cpus, nr_entries(d), 1);

	return try_st(d, SRC_CPU_V, 0, nr_entries(d), cpus);
}

static int op_get(struct tph_device *d)
{
	struct vfio_device_feature_tph tph;

	return __vfio_device_feature_get(d->device->fd, VFIO_DEVICE_FEATURE_TPH,
					 &tph, sizeof(tph));
}

static int op_resolve(struct tph_device *d)
{
	struct vfio_device_feature_tph_resolve resolve;

	return __vfio_pci_tph_resolve(d->device, SRC_CPU_V, 0, &resolve);
}

/* Return 0 or -errno. */
static int op_debugfs(struct tph_device *d)
{
	char path[PATH_MAX], buf[1024];
	ssize_t ret;
	int fd;

	debugfs_path(d, path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;

	ret = read(fd, buf, sizeof(buf));
	ret = ret < 0 ? -errno : 0;
	VFIO_ASSERT_EQ(close(fd), 0);

	return ret;
}

/* Let each call in @op fail in turn, until none of them does. */
static void sweep(struct tph_device *d, int fd, const char *name,
		  int (*op)(struct tph_device *d),
		  void (*check)(struct tph_device *d, int ret))
{
	u32 nth, faults = 0;
	bool failed = true;
	int ret;

	for (nth = 1; failed; nth++) {
		VFIO_ASSERT_LT(nth, 1000, "%s\n", name);
		fail_nth_begin(fd, nth);
		ret = op(d);
		failed = fail_nth_end(fd);
		faults += failed;
		check(d, ret);
	}

	VFIO_ASSERT_GE(ret, 0, "%s\n", name);
	VFIO_ASSERT_GT(faults, 0, "%s\n", name);
	printf("# %s: %u faults\n", name, faults);
}

static void swept_opt_in(struct tph_device *d, int ret)
{
	VFIO_ASSERT_TRUE(!ret || ret == -ENOMEM || ret == -EFAULT);

	/* Without it the register takes nothing. */
	if (ret)
		vfio_pci_config_writel(d->device, d->pos + PCI_TPH_CTRL,
				       CTRL_NS);
	check_ctrl(d, CTRL_OFF);
}

static void swept_ctrl_written(struct tph_device *d, int ret)
{
	VFIO_ASSERT_TRUE(!ret || ret == -ENOMEM || ret == -EFAULT);
	set_ctrl(d, CTRL_OFF);
}

/* @ret entries have the tags of the sweep, and TPH is on as it was. */
static void check_swept_st(struct tph_device *d, int ret, const u16 *swept)
{
	u16 tags[MAX_ENTRIES];

	check_ctrl(d, ctrl_on(d));
	fill_tags(tags, 0, MAX_ENTRIES, TAG_V(0));
	if (ret > 0)
		memcpy(tags, swept, ret * sizeof(*tags));
	check_table(d, tags);
	program(d, 0, nr_entries(d), 0);
}

static void swept_st(struct tph_device *d, int ret)
{
	u16 tags[MAX_ENTRIES];

	fill_tags(tags, 0, MAX_ENTRIES, SWEPT_TAG);
	check_swept_st(d, ret, tags);
}

static void swept_st_cpus(struct tph_device *d, int ret)
{
	u16 tags[MAX_ENTRIES];

	fill_tags(tags, 0, MAX_ENTRIES, TAG_V(1));
	check_swept_st(d, ret, tags);
}

/* What only looks changes nothing. */
static void swept_look(struct tph_device *d, int ret)
{
	VFIO_ASSERT_TRUE(!ret || ret == -ENOMEM || ret == -EFAULT, "%d\n", ret);
	check_filled(d, ctrl_on(d));
}

/* Whatever cannot be allocated or copied, the three views agree. */
TEST_F_TIMEOUT(vfio_pci_tph_life, fail_nth, 300)
{
	struct tph_device *d = &self->d;
	int fd = fail_nth_open();
	char line[128];

	if (fd < 0)
		SKIP(return, "Needs CONFIG_FAULT_INJECTION_DEBUG_FS");

	sweep(d, fd, "opt-in", op_opt_in, swept_opt_in);
	sweep(d, fd, "control register", op_ctrl, swept_ctrl_written);

	if (has_table(d)) {
		set_ctrl(d, ctrl_on(d));
		program(d, 0, nr_entries(d), 0);
		enable_vectors(d);
		sweep(d, fd, "TPH_ST", op_st, swept_st);
	}

	/* An interpreter that is out of memory can keep the lock of a method. */
	if (!fail_nth_spare("acpi_evaluate_dsm")) {
		printf("# Tags of CPUs need CONFIG_FAULT_INJECTION_STACKTRACE_FILTER\n");
	} else if (has_table(d)) {
		sweep(d, fd, "TPH_ST of CPUs", op_st_cpus, swept_st_cpus);
		sweep(d, fd, "TPH_RESOLVE", op_resolve, swept_look);
	}

	set_ctrl(d, ctrl_on(d));
	sweep(d, fd, "TPH", op_get, swept_look);
	if (debugfs_line(d, "PCI core: ", line, sizeof(line)))
		sweep(d, fd, "debugfs", op_debugfs, swept_look);

	ASSERT_EQ(0, close(fd));
}

static struct vfio_pci_device *swept_device;

static int op_bind(struct tph_device *d)
{
	return __vfio_device_bind_iommufd(swept_device->fd,
					  swept_device->iommu->iommufd, NULL);
}

/*
 * Whoever could open it has no TPH yet. For the next one it is left on again. What
 * is said of a failure is the business of IOMMU and PCI core, too.
 */
static void swept_bind(struct tph_device *d, int ret)
{
	if (!ret) {
		VFIO_ASSERT_EQ(hw_ctrl(d), CTRL_OFF);
		check_hw_table(d, no_tags);
	}

	VFIO_ASSERT_EQ(close(swept_device->fd), 0);
	leave_on(d);
	vfio_pci_cdev_open(swept_device, d->bdf);
}

/* Whatever cannot be allocated or copied, TPH is off when the device is open. */
TEST_F_TIMEOUT(vfio_pci_tph_life, fail_nth_open, 300)
{
	struct tph_device *d = &self->d;
	struct iommu *iommu;
	int fd = fail_nth_open();

	if (fd < 0)
		SKIP(return, "Needs CONFIG_FAULT_INJECTION_DEBUG_FS");

	tph_close(d);
	keep_awake(d, true);
	leave_on(d);

	iommu = iommu_init(MODE_IOMMUFD);
	swept_device = vfio_pci_device_alloc(d->bdf, iommu);
	vfio_pci_cdev_open(swept_device, d->bdf);
	sweep(d, fd, "open", op_bind, swept_bind);
	ASSERT_EQ(0, close(swept_device->fd));
	vfio_pci_device_free(swept_device);
	iommu_cleanup(iommu);

	keep_awake(d, false);
	tph_open(d);
	check_clean(d);
	ASSERT_EQ(0, close(fd));
}

#define SWEPT_VECTORS	2

static int swept_eventfds[SWEPT_VECTORS + 1];

static int op_vectors(struct tph_device *d)
{
	return __vfio_pci_irq_set(d->device, VFIO_PCI_MSIX_IRQ_INDEX, 0,
				  SWEPT_VECTORS, swept_eventfds);
}

static int op_add_vector(struct tph_device *d)
{
	return __vfio_pci_irq_set(d->device, VFIO_PCI_MSIX_IRQ_INDEX,
				  SWEPT_VECTORS, 1,
				  swept_eventfds + SWEPT_VECTORS);
}

/* TPH is on as it was, and each vector that there is has its tag. */
static void check_swept_vectors(struct tph_device *d, int count)
{
	u16 tags[MAX_ENTRIES] = {};

	if (cap_loc(d->cap) != PCI_TPH_LOC_MSIX)
		count = nr_entries(d);

	fill_tags(tags, 0, count, has_table(d) ? TAG_V(0) : 0);
	check_ctrl(d, ctrl_on(d));
	check_table(d, tags);
}

/* If there are not as many as wanted none is left. */
static void swept_vectors(struct tph_device *d, int ret)
{
	check_swept_vectors(d, ret ? 0 : SWEPT_VECTORS);
	if (!ret)
		vfio_pci_msix_disable(d->device);
}

/* The vector stays, unless it is the one that could not be allocated. */
static void swept_add_vector(struct tph_device *d, int ret)
{
	u16 entries[MAX_ENTRIES];
	bool added;

	hw_table(d, entries);
	added = !ret || entries[SWEPT_VECTORS];
	check_swept_vectors(d, SWEPT_VECTORS + added);

	vfio_pci_msix_disable(d->device);
	VFIO_ASSERT_EQ(op_vectors(d), 0);
}

/*
 * Vectors are made while TPH is on. Freeing an interrupt whose files in /proc
 * could not be created makes the kernel warn, with or without TPH.
 */
TEST_F_TIMEOUT(vfio_pci_tph_life, fail_nth_vectors, 300)
{
	struct tph_device *d = &self->d;
	int fd, i;

	if (!d->sim)
		SKIP(return, "Needs a simulated device");

	fd = fail_nth_open();
	if (fd < 0)
		SKIP(return, "Needs CONFIG_FAULT_INJECTION_DEBUG_FS");

	for (i = 0; i < ARRAY_SIZE(swept_eventfds); i++) {
		swept_eventfds[i] = eventfd(0, EFD_CLOEXEC);
		ASSERT_LE(0, swept_eventfds[i]);
	}

	vfio_pci_tph_opt_in(d->device);
	set_ctrl(d, ctrl_on(d));
	if (has_table(d))
		program(d, 0, nr_entries(d), 0);

	sweep(d, fd, "MSI-X vectors", op_vectors, swept_vectors);
	ASSERT_EQ(0, op_vectors(d));
	sweep(d, fd, "one vector more", op_add_vector, swept_add_vector);

	for (i = 0; i < ARRAY_SIZE(swept_eventfds); i++)
		ASSERT_EQ(0, close(swept_eventfds[i]));
	ASSERT_EQ(0, close(fd));
}

/* Do something with the device that others do not expect, and undo it. */
static void disturb_reset(struct tph_device *d)
{
	ioctl(d->device->fd, VFIO_DEVICE_RESET);
}

/* It gives way to who has a lock. */
static void disturb_hot_reset(struct tph_device *d)
{
	int ret = try_hot_reset(d);

	VFIO_ASSERT_TRUE(!ret || ret == -EAGAIN || ret == -EBUSY, "%d\n", ret);
}

static void disturb_memory(struct tph_device *d)
{
	vfio_pci_cmd_clear(d->device, PCI_COMMAND_MEMORY);
	vfio_pci_cmd_set(d->device, PCI_COMMAND_MEMORY);
}

static void disturb_power(struct tph_device *d)
{
	set_power_state(d, PM_D3HOT);
	set_power_state(d, PM_D0);
}

static int low_power(struct tph_device *d, u16 feature)
{
	return __vfio_device_feature_set(d->device->fd, feature, NULL, 0);
}

static void disturb_low_power(struct tph_device *d)
{
	low_power(d, VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY);
	low_power(d, VFIO_DEVICE_FEATURE_LOW_POWER_EXIT);
}

static void disturb_vectors(struct tph_device *d)
{
	vfio_pci_msix_disable(d->device);
	vfio_pci_msix_enable(d->device, 0, d->nr_msix);
}

static void disturb_sysfs_reset(struct tph_device *d)
{
	VFIO_ASSERT_EQ(write_device(d, "reset", "1"), 0);
}

/* Returns 0 or -errno: it gives way to who has a lock. */
static int try_port_reset(struct tph_device *d)
{
	char rp[PCI_SIM_BDF_SIZE], dir[PATH_MAX];

	pci_sim_get_bdf(d->sim, "hb0/rp0", rp);
	snprintf_assert(dir, sizeof(dir), "/sys/bus/pci/devices/%s", rp);

	return __sysfs_write(dir, "reset_subordinate", "1");
}

static void port_reset(struct tph_device *d)
{
	VFIO_ASSERT_EQ(try_port_reset(d), 0);
}

static void wait_suspended(struct tph_device *d)
{
	char path[PATH_MAX], status[16] = "";
	FILE *file;
	int i;

	snprintf_assert(path, sizeof(path),
			"/sys/bus/pci/devices/%s/power/runtime_status", d->bdf);

	for (i = 0; strcmp(status, "suspended\n"); i++) {
		VFIO_ASSERT_LT(i, 1000, "%s is %s\n", d->bdf, status);
		if (i)
			usleep(10000);

		file = fopen(path, "re");
		VFIO_ASSERT_NOT_NULL(file);
		VFIO_ASSERT_NOT_NULL(fgets(status, sizeof(status), file));
		fclose(file);
	}
}

/* Let the device sleep. An access wakes it for as long as that takes. */
static void low_power_cycle(struct tph_device *d)
{
	VFIO_ASSERT_EQ(low_power(d, VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY), 0);
	wait_suspended(d);
	user_read(d, PCI_TPH_CTRL);
	wait_suspended(d);
	VFIO_ASSERT_EQ(low_power(d, VFIO_DEVICE_FEATURE_LOW_POWER_EXIT), 0);
}

/* Let the device sleep until it is woken, which its user is told of. */
static void low_power_wakeup(struct tph_device *d)
{
	struct vfio_device_low_power_entry_with_wakeup entry = {};
	eventfd_t events;

	entry.wakeup_eventfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	VFIO_ASSERT_GE(entry.wakeup_eventfd, 0);
	vfio_device_feature_set(d->device->fd,
				VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
				&entry, sizeof(entry));
	wait_suspended(d);
	VFIO_ASSERT_NE(eventfd_read(entry.wakeup_eventfd, &events), 0);

	user_read(d, PCI_TPH_CTRL);
	VFIO_ASSERT_EQ(eventfd_read(entry.wakeup_eventfd, &events), 0);
	VFIO_ASSERT_EQ(events, 1);
	VFIO_ASSERT_EQ(close(entry.wakeup_eventfd), 0);
}

/* What the user does not mean to reset TPH leaves it as it is, on or off. */
TEST_F_TIMEOUT(vfio_pci_tph_life, unchanged, 120)
{
	static void (* const events[])(struct tph_device *d) = {
		disturb_memory, disturb_power, disturb_vectors,
		disturb_sysfs_reset, port_reset, low_power_cycle,
		low_power_wakeup,
	};
	struct tph_device *d = &self->d;
	u32 i;

	if (!d->sim)
		SKIP(return, "Needs a simulated device");

	vfio_pci_msix_enable(d->device, 0, d->nr_msix);

	for (i = 0; i < ARRAY_SIZE(events); i++) {
		tph_start_off(d);
		check_filled(d, CTRL_OFF);
		events[i](d);
		check_filled(d, CTRL_OFF);

		tph_start(d);
		check_started(d);
		events[i](d);
		check_started(d);
		check_hint(d, 0, 1, has_table(d) ? TAG_V(0) : 0, false);
	}
}

/*
 * A reset that is refused changes nothing, but FLR clears all: the user cannot
 * tell that the device has not been reset.
 */
static void check_refused_reset(struct tph_device *d, u32 ctrl, int ret)
{
	check_filled(d, ctrl);
	trace_start(d);
	VFIO_ASSERT_EQ(__vfio_pci_device_reset(d->device), ret);
	check_filled(d, ctrl);

	write_flr(d);
	check_not_reset(d);
	check_reset(d);
}

/* The driver is to be taken from the device, which waits for its user. */
static pid_t unbind_start(struct tph_device *d)
{
	char command[128];
	pid_t child;

	snprintf_assert(command, sizeof(command),
			"echo %s >/sys/bus/pci/drivers/vfio-pci/unbind", d->bdf);
	child = fork_child();
	/* Who waits must not hold the device open itself. */
	if (!child) {
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}

	return child;
}

static void unbind_finish(struct tph_device *d, pid_t child)
{
	int status;

	tph_close(d);
	VFIO_ASSERT_EQ(waitpid(child, &status, 0), child);
	VFIO_ASSERT_TRUE(WIFEXITED(status));
	VFIO_ASSERT_EQ(WEXITSTATUS(status), 0);
	VFIO_ASSERT_EQ(hw_ctrl(d), CTRL_OFF);

	VFIO_ASSERT_EQ(__sysfs_write("/sys/bus/pci/drivers/vfio-pci", "bind",
				     d->bdf), 0);
	tph_open(d);
	check_clean(d);
}

TEST_F_TIMEOUT(vfio_pci_tph_life, refused_reset, 120)
{
	struct pollfd pollfd = { .events = POLLIN };
	struct tph_device *d = &self->d;
	pid_t child;

	if (!d->sim)
		SKIP(return, "Needs a simulated device");

	ASSERT_EQ(0, write_device(d, "reset_method", "\n"));
	tph_start_off(d);
	check_refused_reset(d, CTRL_OFF, -ENOTTY);
	tph_start(d);
	check_refused_reset(d, ctrl_on(d), -ENOTTY);
	ASSERT_EQ(0, write_device(d, "reset_method", "default"));

	/* Who takes the driver away has a lock when asking for the device. */
	pollfd.fd = vfio_pci_req_enable(d->device);
	child = unbind_start(d);
	ASSERT_EQ(1, poll(&pollfd, 1, 60000));
	tph_start_off(d);
	check_refused_reset(d, CTRL_OFF, -EAGAIN);
	tph_start(d);
	ASSERT_EQ(-EAGAIN, try_hot_reset(d));
	check_refused_reset(d, ctrl_on(d), -EAGAIN);
	ASSERT_EQ(0, close(pollfd.fd));
	unbind_finish(d, child);
}

static void check_dead_after_reset(struct tph_device *d)
{
	int ret;

	pci_sim_set(d->sim, d->ep, "hang", "1");
	/* With Immediate Readiness nobody waits for it. */
	ret = __vfio_pci_device_reset(d->device);
	VFIO_ASSERT_TRUE(!ret || ret == -ENOTTY);
	check_ctrl(d, CTRL_OFF);
	check_table_zero(d);
	VFIO_ASSERT_EQ(try_ctrl(d, ctrl_on(d)), -EIO);
	check_ctrl(d, CTRL_OFF);

	pci_sim_set(d->sim, d->ep, "hang", "0");
	vfio_pci_cmd_set(d->device, COMMAND_ON);
	check_reset(d);
}

/* It makes no difference if the device does not come back from a reset. */
TEST_F_TIMEOUT(vfio_pci_tph_life, dead_after_reset, 300)
{
	struct tph_device *d = &self->d;

	if (!d->sim)
		SKIP(return, "Needs a simulated device");

	tph_start(d);
	check_started(d);
	check_dead_after_reset(d);

	tph_reopen(d);
	tph_start_off(d);
	check_filled(d, CTRL_OFF);
	check_dead_after_reset(d);
}

/* After a fatal error the device is not as it was, whoever has reset it. */
TEST_F_TIMEOUT(vfio_pci_tph_life, fatal_aer, 120)
{
	struct tph_device *d = &self->d;

	if (!d->sim)
		SKIP(return, "Needs a simulated device");

	tph_start(d);
	check_started(d);
	check_hint(d, 0, 1, has_table(d) ? TAG_V(0) : 0, false);
	pci_sim_error_reset(d->sim, d->ep, "fatal");
	check_ctrl(d, CTRL_OFF);
	check_table_zero(d);

	vfio_pci_cmd_set(d->device, COMMAND_ON);
	check_reset(d);
}

/* Where the PCI Express capability of a component is, for that of a bridge, too */
static u8 find_exp(const char *bdf)
{
	u16 cap;
	u8 pos;

	sysfs_config_access(bdf, false, PCI_CAPABILITY_LIST, 1, &pos);
	while (pos) {
		sysfs_config_access(bdf, false, pos, sizeof(cap), &cap);
		if ((cap & 0xff) == PCI_CAP_ID_EXP)
			break;
		pos = cap >> 8;
	}
	VFIO_ASSERT_NE(pos, 0);

	return pos;
}

/*
 * A fatal error, from which the kernel cannot recover: behind the reset the port
 * does not tell that its link is up. The user is told of both.
 */
static void fail_recovery(struct tph_device *d)
{
	static const char port[] = "hb0/rp0";
	struct pollfd pollfd = {
		.fd = vfio_pci_err_enable(d->device),
		.events = POLLIN,
	};
	char bdf[PCI_SIM_BDF_SIZE];
	u64 count, errors = 0;

	pci_sim_get_bdf(d->sim, port, bdf);
	pci_sim_fail_read(d->sim, port, find_exp(bdf) + PCI_EXP_LNKCTL, ALWAYS,
			  0);
	pci_sim_error(d->sim, d->ep, "fatal");

	while (errors < 2) {
		VFIO_ASSERT_EQ(poll(&pollfd, 1, 60000), 1);
		VFIO_ASSERT_EQ(read(pollfd.fd, &count, sizeof(count)),
			       sizeof(count));
		errors += count;
	}

	pci_sim_fail_none(d->sim, port);
	VFIO_ASSERT_EQ(close(pollfd.fd), 0);
}

/* What the reset saves and restores has no BARs. They come with PCI_COMMAND. */
static void reset_cut_off(struct tph_device *d)
{
	vfio_pci_device_reset(d->device);
	vfio_pci_cmd_set(d->device, COMMAND_ON);
}

/* A device that is cut off takes nothing, until its user resets it. */
static void check_cut_off(struct tph_device *d)
{
	u32 cpu = 0;

	VFIO_ASSERT_EQ(try_ctrl(d, ctrl_on(d)), -EIO);
	if (has_table(d))
		VFIO_ASSERT_EQ(try_st(d, SRC_CPU_V, 0, 1, &cpu), -EIO);
	check_ctrl(d, CTRL_OFF);
	check_table_zero(d);

	reset_cut_off(d);
	check_reset(d);
}

TEST_F_TIMEOUT(vfio_pci_tph_life, failed_recovery, 120)
{
	struct tph_device *d = &self->d;

	if (!d->sim)
		SKIP(return, "Needs a simulated device");

	tph_start(d);
	check_started(d);
	fail_recovery(d);
	check_cut_off(d);

	/* Nor does it for who opts in only then. */
	tph_reopen(d);
	fail_recovery(d);
	vfio_pci_tph_opt_in(d->device);
	check_cut_off(d);
}

/* The reset ends it also for who opts in behind it. */
TEST_F_TIMEOUT(vfio_pci_tph_life, failed_recovery_before_opt_in, 120)
{
	struct tph_device *d = &self->d;

	if (!d->sim)
		SKIP(return, "Needs a simulated device");

	fail_recovery(d);
	reset_cut_off(d);
	vfio_pci_tph_opt_in(d->device);
	check_reset(d);
}

/* Return 0 if a user could open the device, with TPH off, or -errno. */
static int try_open(struct tph_device *d, int *usable)
{
	struct vfio_pci_device *device;
	struct iommu *iommu;
	int ret;

	iommu = iommu_init(MODE_IOMMUFD);
	device = vfio_pci_device_alloc(d->bdf, iommu);
	vfio_pci_cdev_open(device, d->bdf);
	ret = __vfio_device_bind_iommufd(device->fd, iommu->iommufd, NULL);
	if (!ret) {
		VFIO_ASSERT_EQ(hw_ctrl(d), CTRL_OFF);
		check_hw_table(d, no_tags);
		*usable = __vfio_device_feature_probe(device->fd,
						      VFIO_DEVICE_FEATURE_TPH);
	}
	VFIO_ASSERT_EQ(close(device->fd), 0);
	vfio_pci_device_free(device);
	iommu_cleanup(iommu);

	return ret;
}

/* Whether all the failures of writes have come that were asked for */
static bool has_failed(struct tph_device *d)
{
	char fail[32];
	u32 count;
	int ret;

	pci_sim_get(d->sim, d->ep, "fail_write", fail, sizeof(fail));
	ret = sscanf(fail, "%*x %u", &count);
	VFIO_ASSERT_EQ(ret, 1);

	return !count;
}

/*
 * Open a device on which TPH is on, and cannot be turned off @count times. Returns
 * what comes of that. Afterwards it opens as ever.
 */
static int open_left_on(struct tph_device *d, u32 count)
{
	bool sometimes = count != ALWAYS;
	int ret, usable = 0;

	leave_on(d);
	pci_sim_fail_write(d->sim, d->ep, d->pos + PCI_TPH_CTRL, count, 0);
	ret = try_open(d, &usable);
	VFIO_ASSERT_EQ(has_failed(d), sometimes);
	/* If not all could be cleared it is a device without TPH. */
	VFIO_ASSERT_EQ(usable, sometimes || ret ? 0 : -EOPNOTSUPP);
	pci_sim_fail_none(d->sim, d->ep);

	tph_open(d);
	check_clean(d);
	tph_close(d);

	return ret;
}

/* TPH is never on when the user gets the device. It is tried more than once. */
TEST_F_TIMEOUT(vfio_pci_tph_life, failed_open, 120)
{
	struct tph_device *d = &self->d;

	if (!d->sim)
		SKIP(return, "Needs a simulated device");

	tph_close(d);
	keep_awake(d, true);
	ASSERT_EQ(0, open_left_on(d, 1));
	ASSERT_EQ(0, open_left_on(d, 2));
	/* The reset has turned it off, so there is no reason not to open it. */
	ASSERT_EQ(0, open_left_on(d, ALWAYS));

	ASSERT_EQ(0, write_device(d, "reset_method", "\n"));
	ASSERT_EQ(0, open_left_on(d, 1));
	ASSERT_EQ(-EIO, open_left_on(d, ALWAYS));
	ASSERT_EQ(0, write_device(d, "reset_method", "default"));
	keep_awake(d, false);
	tph_open(d);
}

/* Disturb @d in a process of its own, until that is killed. */
static pid_t disturb_start(struct tph_device *d,
			   void (*disturb)(struct tph_device *d))
{
	pid_t child = fork_child();

	while (!child)
		disturb(d);

	return child;
}

static void disturb_stop(pid_t child)
{
	int status;

	VFIO_ASSERT_EQ(kill(child, SIGKILL), 0);
	VFIO_ASSERT_EQ(waitpid(child, &status, 0), child);
	VFIO_ASSERT_TRUE(WIFSIGNALED(status), "It failed\n");
}

/* Use everything, whether it works or not. */
static void use_all(struct tph_device *d, u32 i)
{
	off_t pos = d->device->config_space.offset + d->pos + PCI_TPH_CTRL;
	u32 cpus[MAX_ENTRIES], ctrl;
	int ret;

	fill_cpus(cpus, MAX_ENTRIES, i % 2 ? 0 : other_cpu());
	if (has_table(d))
		try_st(d, SRC_CPU_V, i % 4, nr_entries(d) - 4, cpus);
	ret = try_ctrl(d, i % 3 ? ctrl_on(d) : CTRL_OFF);
	VFIO_ASSERT_TRUE(!ret || ret == -EIO, "%d\n", ret);
	if (pread(d->device->fd, &ctrl, sizeof(ctrl), pos) != sizeof(ctrl))
		VFIO_ASSERT_EQ(errno, EIO);
}

/* Whatever happens at the same time, in the end the three views agree. */
TEST_F_TIMEOUT(vfio_pci_tph_life, disturbed, 300)
{
	static void (* const disturb[])(struct tph_device *d) = {
		disturb_reset, disturb_hot_reset, write_flr, disturb_memory,
		disturb_power, disturb_low_power, disturb_vectors,
		disturb_sysfs_reset,
	};
	struct tph_device *d = &self->d;
	u32 i, use = 0;
	pid_t child;
	u64 end;

	if (!d->sim)
		SKIP(return, "Needs a simulated device");

	for (i = 0; i < ARRAY_SIZE(disturb); i++) {
		vfio_pci_tph_opt_in(d->device);
		vfio_pci_msix_enable(d->device, 0, d->nr_msix);
		child = disturb_start(d, disturb[i]);
		end = vfio_pci_tph_stress_end(ARRAY_SIZE(disturb));
		do {
			use_all(d, use++);
		} while (vfio_pci_tph_stress_on(end));
		disturb_stop(child);

		low_power(d, VFIO_DEVICE_FEATURE_LOW_POWER_EXIT);
		set_power_state(d, PM_D0);
		vfio_pci_cmd_set(d->device, COMMAND_ON);
		check_ctrl(d, user_read(d, PCI_TPH_CTRL));
		check_kept(d);

		tph_reopen(d);
		tph_start(d);
		check_started(d);
		tph_reopen(d);
	}
}

/*
 * Each step waits for a reset of a tenth of a second, if that is what goes on. A
 * round is short, since it is at its end that the views are compared.
 */
#define PROGRAMS	2

/* Program in a process of its own, and end with what check_started() expects. */
static pid_t program_start(struct tph_device *d)
{
	pid_t child = fork_child();
	u32 i;

	if (child)
		return child;

	for (i = 0; i < PROGRAMS; i++) {
		vfio_pci_config_writel(d->device, d->pos + PCI_TPH_CTRL,
				       CTRL_OFF);
		if (has_table(d))
			program(d, i % 3, nr_entries(d) - 3, other_cpu());
		vfio_pci_config_writel(d->device, d->pos + PCI_TPH_CTRL,
				       ctrl_on(d));
		if (has_table(d))
			program(d, 0, nr_entries(d), 0);
	}
	_exit(0);
}

/* Resets that others ask for fall between two steps, and lose nothing. */
TEST_F_TIMEOUT(vfio_pci_tph_life, sysfs_reset_race, 300)
{
	struct tph_device *d = &self->d;
	int resets[2] = {};
	int status, round, ret;
	pid_t child;
	u64 end;

	if (!d->sim)
		SKIP(return, "Needs a simulated device");

	tph_start(d);
	end = vfio_pci_tph_stress_end(2);
	for (round = 0; round < 2 || vfio_pci_tph_stress_on(end); round++) {
		child = program_start(d);
		do {
			if (round % 2) {
				ret = try_port_reset(d);
				ASSERT_TRUE(!ret || ret == -EAGAIN);
			} else {
				ret = write_device(d, "reset", "1");
				ASSERT_EQ(0, ret);
			}
			resets[round % 2] += !ret;
		} while (!waitpid(child, &status, WNOHANG));

		ASSERT_TRUE(WIFEXITED(status));
		ASSERT_EQ(0, WEXITSTATUS(status));
		check_started(d);
	}
	ASSERT_GT(resets[0], 0);
	ASSERT_GT(resets[1], 0);
	check_hint(d, 0, 1, has_table(d) ? TAG_V(0) : 0, false);
}

#define USES	20

TEST_F_TIMEOUT(vfio_pci_tph_life, unbind, 120)
{
	struct tph_device *d = &self->d;
	pid_t child;
	int use;

	if (!d->sim)
		SKIP(return, "Needs a simulated device");

	tph_start(d);
	child = unbind_start(d);
	for (use = 0; use < USES; use++)
		use_all(d, use);
	ASSERT_EQ(user_read(d, PCI_TPH_CTRL), hw_ctrl(d));
	unbind_finish(d, child);
}

/* The system sleeps, as far as the devices are concerned, and wakes up. */
TEST_F_TIMEOUT(vfio_pci_tph_life, system_suspend, 120)
{
	struct tph_device *d = &self->d;

	if (!d->sim)
		SKIP(return, "Needs a simulated device");
	if (__sysfs_write("/sys/power", "pm_test", "platform"))
		SKIP(return, "Needs CONFIG_SUSPEND and CONFIG_PM_DEBUG");

	__sysfs_write("/sys/module/suspend/parameters", "pm_test_delay", "0");
	tph_start_off(d);
	check_filled(d, CTRL_OFF);
	ASSERT_EQ(0, __sysfs_write("/sys/power", "state", "freeze"));
	check_filled(d, CTRL_OFF);

	tph_start(d);
	check_started(d);
	ASSERT_EQ(0, __sysfs_write("/sys/power", "state", "freeze"));
	check_started(d);
	check_hint(d, 0, 1, has_table(d) ? TAG_V(0) : 0, false);

	/* What is chosen in D3hot waits, also across that. */
	set_power_state(d, PM_D3HOT);
	vfio_pci_config_writel(d->device, d->pos + PCI_TPH_CTRL, CTRL_OFF);
	ASSERT_EQ(0, __sysfs_write("/sys/power", "state", "freeze"));
	set_power_state(d, PM_D0);
	check_ctrl(d, CTRL_OFF);
}

/* --- The Steering Tag table, where it can be used --- */

FIXTURE(vfio_pci_tph_st_test) {
	struct tph_device d;
};

FIXTURE_VARIANT(vfio_pci_tph_st_test) {
	u32 loc;
};

FIXTURE_VARIANT_ADD(vfio_pci_tph_st_test, cap) {
	.loc = PCI_TPH_LOC_CAP,
};

FIXTURE_VARIANT_ADD(vfio_pci_tph_st_test, msix) {
	.loc = PCI_TPH_LOC_MSIX,
};

FIXTURE_SETUP(vfio_pci_tph_st_test)
{
	const char *reason;

	reason = device_setup(&self->d, 1, variant->loc);
	if (reason)
		SKIP(return, "%s", reason);
	if (!has_table(&self->d))
		SKIP(return, "The device has no mode that uses a table");
}

FIXTURE_TEARDOWN(vfio_pci_tph_st_test)
{
	device_teardown(&self->d);
}

TEST_F(vfio_pci_tph_st_test, bounds)
{
	struct tph_device *d = &self->d;
	int nr = nr_entries(d), ret, i;
	const struct {
		u16 start;
		u16 count;
		int ret;
	} cases[] = {
		{ 0, 0, -EINVAL },
		{ nr, 0, -EINVAL },
		{ nr, 1, -EINVAL },
		{ nr - 1, 2, -EINVAL },
		{ 0, nr + 1, -EINVAL },
		{ 1, nr, -EINVAL },
		{ UINT16_MAX, 1, -EINVAL },
		{ 0, UINT16_MAX, -EINVAL },
		{ 1, UINT16_MAX, -EINVAL },
		{ 2, UINT16_MAX, -EINVAL },
		{ UINT16_MAX, UINT16_MAX, -EINVAL },
		{ nr - 1, 1, 1 },
		{ 0, nr, nr },
	};
	u32 *cpus;

	tph_start(d);
	cpus = calloc_assert(MAX_BATCH, sizeof(*cpus));

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		trace_start(d);
		ret = try_st(d, SRC_CPU_V, cases[i].start, cases[i].count,
			     cpus);
		ASSERT_EQ(cases[i].ret, ret)
			TH_LOG("%u + %u", cases[i].start, cases[i].count);
		if (cases[i].ret < 0)
			check_untouched(d);
	}

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		ret = try_st(d, SRC_NONE, cases[i].start, cases[i].count,
			     NULL);
		ASSERT_EQ(cases[i].ret, ret)
			TH_LOG("%u + %u", cases[i].start, cases[i].count);
	}

	check_ctrl(d, ctrl_on(d));
	check_table_zero(d);
	free(cpus);
}

/* Of @cpus only two can be read. */
static void check_fault_first(struct tph_device *d, const u32 *cpus)
{
	int nr = nr_entries(d);

	trace_start(d);
	VFIO_ASSERT_EQ(try_st(d, SRC_CPU_V, 0, 4, cpus), -EFAULT);
	VFIO_ASSERT_EQ(try_st(d, 0, 0, 4, cpus), -EFAULT);
	VFIO_ASSERT_EQ(try_st(d, SRC_CPU_V | SRC_CPU_P, 0, 4, cpus), -EFAULT);
	VFIO_ASSERT_EQ(try_st(d, SRC_CPU_V | BIT(31), 0, 4, cpus), -EFAULT);
	VFIO_ASSERT_EQ(try_st(d, SRC_LITERAL, 0, 4, cpus), -EFAULT);
	VFIO_ASSERT_EQ(try_st(d, SRC_CPU_V, nr, 4, cpus), -EFAULT);
	VFIO_ASSERT_EQ(try_st(d, SRC_CPU_V, nr - 1, 4, cpus), -EFAULT);
	VFIO_ASSERT_EQ(try_st(d, SRC_CPU_V, 0, UINT16_MAX, cpus), -EFAULT);
	/* There is nothing to read. */
	VFIO_ASSERT_EQ(try_st(d, SRC_CPU_V, 0, 0, cpus), -EINVAL);
	check_untouched(d);
}

TEST_F(vfio_pci_tph_st_test, fault)
{
	struct tph_device *d = &self->d;
	void *pages;
	u32 *cpus;

	tph_start(d);

	pages = mmap(NULL, 2 * SZ_4K, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, pages);
	ASSERT_EQ(0, munmap(pages + SZ_4K, SZ_4K));
	cpus = pages + SZ_4K - 2 * sizeof(*cpus);
	fill_cpus(cpus, 2, other_cpu());

	trace_start(d);
	ASSERT_EQ(-EFAULT, try_st(d, SRC_CPU_V, 0, 4, cpus));
	ASSERT_EQ(-EFAULT, try_st(d, SRC_CPU_V, 0, 1, cpus + 2));
	ASSERT_EQ(-EFAULT, try_st(d, SRC_CPU_V, 0, 1, NULL));
	check_untouched(d);
	check_started(d);

	/* It is noticed before anything else that is wrong with the request. */
	check_fault_first(d, cpus);

	/* The destinations of NONE are not read. */
	ASSERT_EQ(4, try_st(d, SRC_NONE, 0, 4, cpus));
	ASSERT_EQ(-EINVAL, try_st(d, SRC_NONE | EXTENDED, 0, 4, cpus));

	tph_reopen(d);
	check_fault_first(d, cpus);
	ASSERT_EQ(-EPERM, try_st(d, SRC_CPU_V, 0, 2, cpus));
	ASSERT_EQ(-EINVAL, try_st(d, SRC_CPU_V | BIT(31), 0, 2, cpus));
	ASSERT_EQ(0, munmap(pages, SZ_4K));
}

/* One batch, with TPH on or off: accesses, and the table at the end */
static void check_batch(struct tph_device *d, u32 ctrl, int start, int count,
			u16 *tags)
{
	bool on = ctrl & PCI_TPH_CTRL_REQ_EN_MASK;
	struct cap_accesses accesses;
	u32 cpus[MAX_ENTRIES];
	int i;

	for (i = 0; i < count; i++) {
		cpus[i] = i % 3 ? 0 : other_cpu();
		/* A tag that the entry does not have yet */
		if (tags[start + i] == TAG_P(cpus[i]))
			cpus[i] = other_cpu() - cpus[i];
		tags[start + i] = TAG_P(cpus[i]);
	}

	trace_start(d);
	vfio_pci_tph_st(d->device, SRC_CPU_P, start, count, cpus);
	VFIO_ASSERT_EQ(trace_stop(d, ctrl, &accesses), ctrl);

	VFIO_ASSERT_EQ(accesses.cleared, on, "%d + %d\n", start, count);
	VFIO_ASSERT_EQ(accesses.set, on, "%d + %d\n", start, count);
	VFIO_ASSERT_EQ(accesses.ctrl, 2 * on, "%d + %d\n", start, count);
	VFIO_ASSERT_LE(accesses.all, nr_dwords(d, start, count) + 2 * on,
		       "%d + %d\n", start, count);

	check_ctrl(d, ctrl);
	check_table(d, tags);
}

TEST_F_TIMEOUT(vfio_pci_tph_st_test, batch, 120)
{
	static const struct {
		u16 start;
		u16 count;
	} batches[] = {
		{ 0, 1 }, { 1, 1 }, { 0, 2 }, { 1, 2 }, { 2, 3 }, { 3, 4 },
		{ 7, 9 }, { 15, 1 }, { 1, 15 }, { 0, 16 },
	};
	static const u32 ctrls[] = { CTRL_OFF, CTRL_NS, CTRL_IV };
	u16 tags[MAX_ENTRIES] = {};
	struct tph_device *d = &self->d;
	int i, j;

	if (!self->d.sim)
		SKIP(return, "Needs a simulated device");
	vfio_pci_tph_opt_in(d->device);
	enable_vectors(d);

	for (i = 0; i < ARRAY_SIZE(ctrls); i++) {
		set_ctrl(d, ctrls[i]);

		for (j = 0; j < ARRAY_SIZE(batches); j++)
			check_batch(d, ctrls[i], batches[j].start,
				    batches[j].count, tags);
	}
}

static void check_keeps_type(struct tph_device *d, u32 ctrl)
{
	struct cap_accesses accesses;

	set_ctrl(d, ctrl);
	trace_start(d);
	program(d, 3, 1, other_cpu());
	check_ctrl(d, ctrl);
	vfio_pci_tph_st(d->device, SRC_NONE, 0, 2, NULL);
	check_ctrl(d, ctrl);
	if (d->trace)
		VFIO_ASSERT_EQ(trace_stop(d, ctrl, &accesses), ctrl);
}

/* Requester Enable is the type that was chosen, and never follows the mode. */
TEST_F(vfio_pci_tph_st_test, keeps_type)
{
	static const u32 ctrls[] = { CTRL_NS, CTRL_IV, CTRL_OFF, CTRL_IV_OFF };
	struct tph_device *d = &self->d;
	int i;

	tph_start(d);

	for (i = 0; i < ARRAY_SIZE(ctrls); i++)
		check_keeps_type(d, ctrls[i]);
	if (d->sim && has_ext(d))
		check_keeps_type(d, CTRL_IV_EXT);
}

/* An access to the table fails: what was done counts, the rest is as it was. */
TEST_F(vfio_pci_tph_st_test, failed_table_write)
{
	static const struct {
		u16 start;
		u16 count;
		int ret;
	} cases[] = {
		{ 0, 16, 4 }, { 3, 4, 1 }, { 4, 2, -EIO }, { 5, 1, -EIO },
	};
	u16 dword = self->d.pos + PCI_TPH_BASE_SIZEOF + 4 * sizeof(u16);
	struct tph_device *d = &self->d;
	u16 tags[MAX_ENTRIES];
	u32 cpus[MAX_ENTRIES];
	int i, ret;

	if (!self->d.sim)
		SKIP(return, "Needs a simulated device");
	if (cap_loc(d->cap) != PCI_TPH_LOC_CAP)
		SKIP(return, "The table is not in config space");

	fill_cpus(cpus, MAX_ENTRIES, 0);
	tph_start(d);

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		program(d, 0, nr_entries(d), 0);
		fill_tags(tags, 0, MAX_ENTRIES, TAG_V(0));
		fill_tags(tags, cases[i].start, max(cases[i].ret, 0), TAG_P(0));

		pci_sim_fail_write(d->sim, d->ep, dword, 1, 0);
		ret = try_st(d, SRC_CPU_P, cases[i].start, cases[i].count,
			     cpus);
		EXPECT_EQ(cases[i].ret, ret)
			TH_LOG("%u + %u", cases[i].start, cases[i].count);
		pci_sim_fail_none(d->sim, d->ep);

		check_ctrl(d, CTRL_IV);
		check_table(d, tags);
	}
}

/* The window cannot be opened: nothing is done. */
TEST_F(vfio_pci_tph_st_test, failed_disable)
{
	u32 cpus[MAX_ENTRIES] = {};
	struct tph_device *d = &self->d;

	if (!self->d.sim)
		SKIP(return, "Needs a simulated device");
	tph_start(d);

	pci_sim_fail_write(d->sim, d->ep, d->pos + PCI_TPH_CTRL, 1, 0);
	ASSERT_EQ(-EIO, try_st(d, SRC_CPU_P, 0, 4, cpus));
	pci_sim_fail_none(d->sim, d->ep);
	check_started(d);

	vfio_pci_tph_st(d->device, SRC_CPU_V, 0, 4, cpus);
	check_started(d);
}

/* The window cannot be closed: TPH is off, and says so. The table stays. */
TEST_F(vfio_pci_tph_st_test, failed_enable)
{
	u32 cpus[MAX_ENTRIES] = {};
	struct tph_device *d = &self->d;
	u16 tags[MAX_ENTRIES];

	if (!self->d.sim)
		SKIP(return, "Needs a simulated device");
	tph_start(d);

	/* The first write opens the window, the second fails. */
	pci_sim_fail_write(d->sim, d->ep, d->pos + PCI_TPH_CTRL, 1, 1);
	ASSERT_EQ(-EIO, try_st(d, SRC_CPU_P, 0, 4, cpus));
	pci_sim_fail_none(d->sim, d->ep);
	check_ctrl(d, CTRL_IV_OFF);
	check_no_hint(d, 0);

	set_ctrl(d, CTRL_IV);
	fill_tags(tags, 0, 4, TAG_P(0));
	fill_tags(tags, 4, MAX_ENTRIES - 4, TAG_V(0));
	check_table(d, tags);
	check_hint(d, 0, 0, TAG_P(0), false);
}

/*
 * Some do not exist, and one that is possible may have no UID before it is there,
 * as in a guest that was started with "-smp 2,maxcpus=3".
 */
TEST_F(vfio_pci_tph_st_test, bad_cpu)
{
	u32 bad[] = {
		nr_possible_cpus(), 0x80000000, ~0u, nr_possible_cpus() - 1,
	};
	struct tph_device *d = &self->d;
	u16 tags[MAX_ENTRIES];
	u32 cpus[4] = {};
	int i, k;

	tph_start(d);

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		if (bad[i] < nr_possible_cpus() && cpu_apic_id(bad[i]) >= 0)
			continue;

		for (k = 0; k < ARRAY_SIZE(cpus); k++) {
			program(d, 0, nr_entries(d), 0);
			fill_tags(tags, 0, MAX_ENTRIES, TAG_V(0));
			fill_tags(tags, 1, k, TAG_P(0));

			/* Entry k of the batch is the bad one. */
			cpus[k] = bad[i];
			trace_start(d);
			ASSERT_EQ(k ?: -EINVAL,
				  try_st(d, SRC_CPU_P, 1, ARRAY_SIZE(cpus),
					 cpus))
				TH_LOG("CPU %#x in entry %d", bad[i], k);
			cpus[k] = 0;

			if (!k)
				check_untouched(d);
			check_ctrl(d, CTRL_IV);
			check_table(d, tags);
		}
	}
}

/* Fork a child that may use CPU 0 alone, in @root/tph. */
static pid_t cpuset_fork(const char *root)
{
	char group[PATH_MAX], pid[16];
	pid_t child = fork_child();

	if (child)
		return child;

	snprintf_assert(group, sizeof(group), "%s/tph", root);
	snprintf_assert(pid, sizeof(pid), "%d", getpid());
	if (__sysfs_write(group, "cgroup.procs", pid))
		_exit(255);

	return 0;
}

/* What the child has passed to cpuset_exit(): small enough for a status */
static int cpuset_wait(pid_t child)
{
	int status;

	VFIO_ASSERT_EQ(waitpid(child, &status, 0), child);
	VFIO_ASSERT_TRUE(WIFEXITED(status));
	VFIO_ASSERT_NE(WEXITSTATUS(status), 255, "Cannot enter the cgroup\n");

	return WEXITSTATUS(status) - 128;
}

static void cpuset_exit(int result)
{
	_exit(128 + result);
}

static int st_in_cpuset(struct tph_device *d, const char *root, int start,
			const u32 *cpus, int count)
{
	pid_t child = cpuset_fork(root);

	if (!child)
		cpuset_exit(try_st(d, SRC_CPU_V, start, count, cpus));

	return cpuset_wait(child);
}

static int resolve_in_cpuset(struct tph_device *d, const char *root, u32 cpu)
{
	struct vfio_device_feature_tph_resolve resolve;
	pid_t child = cpuset_fork(root);

	if (!child)
		cpuset_exit(__vfio_pci_tph_resolve(d->device, SRC_CPU_V, cpu,
						   &resolve));

	return cpuset_wait(child);
}

static const char *cpuset_init(char *root)
{
	char group[PATH_MAX];

	VFIO_ASSERT_NOT_NULL(mkdtemp(root));
	if (mount("none", root, "cgroup2", 0, NULL))
		return "No cgroup2";

	if (__sysfs_write(root, "cgroup.subtree_control", "+cpuset"))
		return "No cpuset controller";

	snprintf_assert(group, sizeof(group), "%s/tph", root);
	if (mkdir(group, 0755) && errno != EEXIST)
		return "No cgroup can be made";

	if (__sysfs_write(group, "cpuset.cpus", "0"))
		return "No cpuset of one CPU";

	return NULL;
}

static void cpuset_cleanup(const char *root)
{
	char group[PATH_MAX];

	snprintf_assert(group, sizeof(group), "%s/tph", root);
	rmdir(group);
	umount2(root, MNT_DETACH);
	rmdir(root);
}

/* A tag is for the CPUs that the caller may run on. */
TEST_F(vfio_pci_tph_st_test, cpuset)
{
	char root[] = "/tmp/vfio_pci_tph_test.XXXXXX";
	struct tph_device *d = &self->d;
	u32 cpus[] = { 0, 1, 0 };
	int partial, refused, allowed;
	u16 tags[MAX_ENTRIES];
	const char *reason;
	cpu_set_t mask;

	if (!other_cpu())
		SKIP(return, "One CPU");

	tph_start(d);

	/* The thread's own affinity does not matter: it may widen it. */
	CPU_ZERO(&mask);
	CPU_SET(0, &mask);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(mask), &mask));
	program(d, 0, 1, 1);
	program(d, 0, 1, 0);

	reason = cpuset_init(root);
	if (!reason) {
		partial = st_in_cpuset(d, root, 0, cpus, 3);
		trace_start(d);
		refused = st_in_cpuset(d, root, 0, cpus + 1, 1);
		check_untouched(d);
		allowed = st_in_cpuset(d, root, 4, cpus, 1);
	}
	cpuset_cleanup(root);
	if (reason)
		SKIP(return, "%s", reason);

	ASSERT_EQ(1, partial);
	ASSERT_EQ(-EPERM, refused);
	ASSERT_EQ(1, allowed);

	fill_tags(tags, 0, MAX_ENTRIES, TAG_V(0));
	check_table(d, tags);
}

/* Tags of one kind are nothing to requests of the other kind. */
TEST_F_TIMEOUT(vfio_pci_tph_st_test, namespaces, 120)
{
	u16 tags[MAX_ENTRIES] = {}, xtags[MAX_ENTRIES] = {};
	struct tph_device *d = &self->d;
	u32 cpu = other_cpu();

	if (!self->d.sim)
		SKIP(return, "Needs a simulated device");
	if (!has_ext(d))
		SKIP(return, "No Extended TPH");
	tph_start(d);
	fill_tags(tags, 0, MAX_ENTRIES, TAG_V(0));

	/* 16 bits, while 8-bit requests are enabled */
	vfio_pci_tph_st(d->device, SRC_CPU_V | EXTENDED, 1, 1, &cpu);
	tags[1] = 0;
	xtags[1] = XTAG_V(cpu);
	check_ctrl(d, CTRL_IV);
	check_table(d, tags);
	check_hint(d, 0, 1, TAG_V(0), false);
	check_hint(d, 1, 1, 0, false);

	set_ctrl(d, CTRL_IV_EXT);
	check_table(d, xtags);
	check_hint(d, 0, 1, 0, true);
	check_hint(d, 1, 2, XTAG_V(cpu), true);

	/* 8 bits, while 16-bit requests are enabled */
	vfio_pci_tph_st(d->device, SRC_CPU_P, 1, 1, &cpu);
	vfio_pci_tph_st(d->device, SRC_CPU_P | EXTENDED, 5, 1, &cpu);
	tags[1] = TAG_P(cpu);
	tags[5] = 0;
	xtags[1] = 0;
	xtags[5] = XTAG_P(cpu);
	check_ctrl(d, CTRL_IV_EXT);
	check_table(d, xtags);
	check_hint(d, 1, 1, 0, true);
	check_hint(d, 5, 1, XTAG_P(cpu), true);

	/* A reset by others keeps the kind, and so do vectors made anew. */
	ASSERT_EQ(0, write_device(d, "reset", "1"));
	check_ctrl(d, CTRL_IV_EXT);
	check_table(d, xtags);
	if (cap_loc(d->cap) == PCI_TPH_LOC_MSIX) {
		vfio_pci_msix_disable(d->device);
		vfio_pci_msix_enable(d->device, 0, nr_entries(d));
		check_ctrl(d, CTRL_IV_EXT);
		check_table(d, xtags);
	}

	/* Off counts as 8 bits. */
	set_ctrl(d, CTRL_OFF);
	check_table(d, tags);
	set_ctrl(d, CTRL_IV);
	check_table(d, tags);
	check_hint(d, 1, 1, TAG_P(cpu), false);
	check_hint(d, 5, 1, 0, false);

	/* Straight from one kind to the other, in D3hot */
	set_power_state(d, PM_D3HOT);
	vfio_pci_config_writel(d->device, d->pos + PCI_TPH_CTRL, CTRL_IV_EXT);
	set_power_state(d, PM_D0);
	check_ctrl(d, CTRL_IV_EXT);
	check_table(d, xtags);
	check_hint(d, 5, 1, XTAG_P(cpu), true);

	/* NONE clears, whatever kind it was. */
	vfio_pci_tph_st(d->device, SRC_NONE, 5, 1, NULL);
	xtags[5] = 0;
	check_table(d, xtags);
	set_ctrl(d, CTRL_IV);
	check_table(d, tags);
}

/* The table of the other kind cannot be written: TPH is off in all views. */
TEST_F(vfio_pci_tph_st_test, failed_change_of_kind)
{
	struct tph_device *d = &self->d;
	u16 tags[MAX_ENTRIES];

	if (!self->d.sim)
		SKIP(return, "Needs a simulated device");
	if (!has_ext(d))
		SKIP(return, "No Extended TPH");
	if (cap_loc(d->cap) != PCI_TPH_LOC_CAP)
		SKIP(return, "The table is not in config space");

	tph_start(d);
	pci_sim_fail_write(d->sim, d->ep, d->pos + PCI_TPH_BASE_SIZEOF + 8, 1,
			   0);
	ASSERT_EQ(-EIO, try_ctrl(d, CTRL_IV_EXT));
	pci_sim_fail_none(d->sim, d->ep);
	check_no_hint(d, 0);
	check_ctrl(d, CTRL_IV_OFF);

	/* What was kept is still there, and goes with TPH off. */
	fill_tags(tags, 0, MAX_ENTRIES, TAG_V(0));
	check_table(d, tags);
	set_ctrl(d, CTRL_IV);
	check_started(d);
}

/*
 * One of the writes to turn TPH off, change the mode and turn it on has failed,
 * the first one if @fail is 0: TPH is off. No mode is left but the new one, or
 * the old one where TPH could not be turned off to change it.
 */
static void check_failed_ctrl(struct tph_device *d, u32 old, u32 new, u32 fail)
{
	bool stopped = fail || !(old & PCI_TPH_CTRL_REQ_EN_MASK);
	u32 mode = (stopped ? new : old) & PCI_TPH_CTRL_MODE_SEL_MASK;
	u32 ctrl = hw_ctrl(d);

	VFIO_ASSERT_TRUE(ctrl == CTRL_OFF || ctrl == mode,
			 "%#x to %#x, write %u: %#x\n", old, new, fail, ctrl);
	check_ctrl(d, ctrl);
}

/* Neither does the device stay on if it cannot be told to change. */
TEST_F_TIMEOUT(vfio_pci_tph_st_test, failed_control_write, 120)
{
	static const u32 olds[] = { CTRL_OFF, CTRL_IV, CTRL_IV_EXT };
	static const u32 news[] = { CTRL_OFF, CTRL_NS, CTRL_IV, CTRL_IV_EXT };
	struct tph_device *d = &self->d;
	u16 tags[MAX_ENTRIES];
	u32 i, fail;
	int ret;

	if (!self->d.sim)
		SKIP(return, "Needs a simulated device");
	if (!has_ext(d))
		SKIP(return, "No Extended TPH");
	tph_start(d);
	fill_tags(tags, 0, MAX_ENTRIES, TAG_V(0));

	for (i = 0; i < ARRAY_SIZE(olds) * ARRAY_SIZE(news) * 3; i++) {
		u32 old = olds[i % 3], new = news[i / 3 % 4];

		if (old == new)
			continue;

		fail = i / 12;
		set_ctrl(d, old);
		pci_sim_fail_write(d->sim, d->ep, d->pos + PCI_TPH_CTRL, 1,
				   fail);
		ret = try_ctrl(d, new);
		if (!ret) {
			/* It took fewer writes. */
			ASSERT_NE(0, fail);
			pci_sim_fail_none(d->sim, d->ep);
			check_ctrl(d, new);
			continue;
		}

		ASSERT_EQ(-EIO, ret);
		pci_sim_fail_none(d->sim, d->ep);
		check_failed_ctrl(d, old, new, fail);
		check_table(d, tags);
		set_ctrl(d, CTRL_IV);
		check_started(d);
	}
}

enum step { STEP_PROGRAM, STEP_ENABLE, STEP_VECTORS, NR_STEPS };

static void do_step(struct tph_device *d, enum step step, const u32 *cpus)
{
	switch (step) {
	case STEP_PROGRAM:
		vfio_pci_tph_st(d->device, SRC_CPU_V, 0, nr_entries(d), cpus);
		break;
	case STEP_ENABLE:
		set_ctrl(d, CTRL_IV);
		break;
	default:
		vfio_pci_msix_enable(d->device, 0, nr_entries(d));
	}
}

/* The table can be programmed, TPH enabled and vectors made in any order. */
TEST_F_TIMEOUT(vfio_pci_tph_st_test, order, 120)
{
	static const enum step orders[][NR_STEPS] = {
		{ STEP_PROGRAM, STEP_ENABLE, STEP_VECTORS },
		{ STEP_PROGRAM, STEP_VECTORS, STEP_ENABLE },
		{ STEP_ENABLE, STEP_PROGRAM, STEP_VECTORS },
		{ STEP_ENABLE, STEP_VECTORS, STEP_PROGRAM },
		{ STEP_VECTORS, STEP_PROGRAM, STEP_ENABLE },
		{ STEP_VECTORS, STEP_ENABLE, STEP_PROGRAM },
	};
	struct tph_device *d = &self->d;
	u16 tags[MAX_ENTRIES] = {};
	u32 cpus[MAX_ENTRIES];
	int i, j;

	if (!self->d.sim)
		SKIP(return, "Needs a simulated device");

	for (i = 0; i < nr_entries(d); i++) {
		cpus[i] = i % 2 ? other_cpu() : 0;
		tags[i] = TAG_V(cpus[i]);
	}

	for (i = 0; i < ARRAY_SIZE(orders); i++) {
		vfio_pci_tph_opt_in(d->device);
		for (j = 0; j < NR_STEPS; j++)
			do_step(d, orders[i][j], cpus);

		check_ctrl(d, CTRL_IV);
		check_table(d, tags);
		check_hint(d, 0, 1, tags[0], false);
		check_hint(d, 5, 1, tags[5], false);
		tph_reopen(d);
	}
}

static void check_tags_upto(struct tph_device *d, int count)
{
	u16 tags[MAX_ENTRIES] = {};

	fill_tags(tags, 0, count, TAG_V(0));
	check_ctrl(d, CTRL_IV);
	check_table(d, tags);
}

/* An entry without vector is 0 in hardware, and gets its tag with it. */
TEST_F(vfio_pci_tph_st_test, vectors)
{
	struct tph_device *d = &self->d;
	int i;

	if (!self->d.sim)
		SKIP(return, "Needs a simulated device");
	if (cap_loc(d->cap) != PCI_TPH_LOC_MSIX)
		SKIP(return, "The table is not in MSI-X");

	vfio_pci_tph_opt_in(d->device);
	set_ctrl(d, CTRL_IV);
	program(d, 0, 8, 0);
	check_tags_upto(d, 0);

	for (i = 0; i < 2; i++) {
		vfio_pci_msix_enable(d->device, 0, 4);
		check_tags_upto(d, 4);
		check_hint(d, 3, 1, TAG_V(0), false);

		vfio_pci_msix_enable(d->device, 4, 4);
		check_tags_upto(d, 8);
		check_hint(d, 7, 1, TAG_V(0), false);

		vfio_pci_msix_disable(d->device);
		check_tags_upto(d, 0);
	}
}

/* Give vectors eventfds of their own. Returns 0 or -errno: then they have none. */
static int try_vectors(struct tph_device *d, u32 start, int count)
{
	int *fds = d->device->msi_eventfds + start, ret, i;

	for (i = 0; i < count; i++) {
		VFIO_ASSERT_LT(fds[i], 0);
		fds[i] = eventfd(0, EFD_CLOEXEC);
		VFIO_ASSERT_GE(fds[i], 0);
	}

	ret = __vfio_pci_irq_set(d->device, VFIO_PCI_MSIX_IRQ_INDEX, start,
				 count, fds);
	for (i = 0; ret && i < count; i++) {
		VFIO_ASSERT_EQ(close(fds[i]), 0);
		fds[i] = -1;
	}

	return ret;
}

/* The window for new vectors cannot be opened: there are none, and TPH goes on. */
static void check_failed_pause(struct tph_device *d, u32 start, int count)
{
	pci_sim_fail_write(d->sim, d->ep, d->pos + PCI_TPH_CTRL, 1, 0);
	VFIO_ASSERT_EQ(try_vectors(d, start, count), -EIO);
	pci_sim_fail_none(d->sim, d->ep);
	check_tags_upto(d, start);
	VFIO_ASSERT_LT(vector_irq(d, start), 0);

	VFIO_ASSERT_EQ(try_vectors(d, start, count), 0);
	check_tags_upto(d, start + count);
	check_hint(d, start, 1, TAG_V(0), false);
}

/* It cannot be closed: TPH is off, and the tags are there when it is on again. */
static void check_failed_resume(struct tph_device *d, u32 start, int count)
{
	int ret;

	pci_sim_fail_write(d->sim, d->ep, d->pos + PCI_TPH_CTRL, 1, 1);
	ret = try_vectors(d, start, count);
	VFIO_ASSERT_TRUE(has_failed(d));
	pci_sim_fail_none(d->sim, d->ep);
	VFIO_ASSERT_EQ(ret, -EIO);
	check_ctrl(d, CTRL_IV_OFF);
	check_kept(d);
	check_no_hint(d, start);

	VFIO_ASSERT_EQ(try_vectors(d, start, count), 0);
	set_ctrl(d, CTRL_IV);
	check_tags_upto(d, start + count);
	check_hint(d, start, 1, TAG_V(0), false);
}

/* They are freed in any case, for which TPH is turned off. */
static void check_failed_free(struct tph_device *d)
{
	check_hint(d, 0, 1, TAG_V(0), false);
	pci_sim_fail_write(d->sim, d->ep, d->pos + PCI_TPH_CTRL, 1, 0);
	vfio_pci_msix_disable(d->device);
	VFIO_ASSERT_TRUE(has_failed(d));
	pci_sim_fail_none(d->sim, d->ep);
	check_ctrl(d, CTRL_IV_OFF);
	check_table_zero(d);
	check_no_hint(d, 0);
	set_ctrl(d, CTRL_IV);
}

TEST_F(vfio_pci_tph_st_test, failed_vectors)
{
	static void (* const checks[])(struct tph_device *d, u32 start,
				       int count) = {
		check_failed_pause, check_failed_resume,
	};
	struct tph_device *d = &self->d;
	int i;

	if (!self->d.sim)
		SKIP(return, "Needs a simulated device");
	if (cap_loc(d->cap) != PCI_TPH_LOC_MSIX)
		SKIP(return, "The table is not in MSI-X");

	vfio_pci_tph_opt_in(d->device);
	set_ctrl(d, CTRL_IV);
	program(d, 0, nr_entries(d), 0);

	for (i = 0; i < ARRAY_SIZE(checks); i++) {
		checks[i](d, 0, 4);
		checks[i](d, 4, 1);
		check_failed_free(d);
	}
}

static void set_eventfd(struct tph_device *d, u32 vector, int fd)
{
	VFIO_ASSERT_EQ(__vfio_pci_irq_set(d->device, VFIO_PCI_MSIX_IRQ_INDEX,
					  vector, 1, &fd), 0);
}

/* A vector that is masked has its tag, and takes another. */
TEST_F(vfio_pci_tph_st_test, masked_vector)
{
	struct tph_device *d = &self->d;
	u16 tags[MAX_ENTRIES];

	tph_start(d);
	if (cap_loc(d->cap) != PCI_TPH_LOC_MSIX)
		vfio_pci_msix_enable(d->device, 0, 4);
	fill_tags(tags, 0, MAX_ENTRIES, TAG_V(0));

	set_eventfd(d, 3, -1);
	check_ctrl(d, CTRL_IV);
	check_table(d, tags);

	program(d, 3, 1, other_cpu());
	tags[3] = TAG_V(other_cpu());
	check_table(d, tags);
	if (d->sim)
		check_hint(d, 3, 1, tags[3], false);

	set_eventfd(d, 3, d->device->msi_eventfds[3]);
	check_ctrl(d, CTRL_IV);
	check_table(d, tags);
	if (d->sim)
		check_hint(d, 3, 1, tags[3], false);
}

/* The table in MSI-X is memory of the device, which the user may have off. */
TEST_F(vfio_pci_tph_st_test, memory_off)
{
	struct tph_device *d = &self->d;
	u16 tags[MAX_ENTRIES];

	tph_start(d);
	vfio_pci_cmd_clear(d->device, PCI_COMMAND_MEMORY);

	program(d, 2, 3, other_cpu());
	ASSERT_EQ(0, vfio_pci_config_readw(d->device, PCI_COMMAND) &
		     PCI_COMMAND_MEMORY);

	fill_tags(tags, 0, MAX_ENTRIES, TAG_V(0));
	fill_tags(tags, 2, 3, TAG_V(other_cpu()));
	check_ctrl(d, CTRL_IV);
	check_table(d, tags);

	vfio_pci_cmd_set(d->device, PCI_COMMAND_MEMORY);
	check_table(d, tags);
}

/* Tags and interrupts go to CPUs of their own. */
TEST_F(vfio_pci_tph_st_test, affinity)
{
	const char * const cpus[] = { "1", "0", "1" };
	struct tph_device *d = &self->d;
	u16 tags[MAX_ENTRIES];
	char dir[64];
	int i, irq;

	if (!other_cpu())
		SKIP(return, "One CPU");

	tph_start(d);
	if (cap_loc(d->cap) != PCI_TPH_LOC_MSIX)
		vfio_pci_msix_enable(d->device, 0, 4);
	fill_tags(tags, 0, MAX_ENTRIES, TAG_V(0));

	irq = vector_irq(d, 3);
	ASSERT_GE(irq, 0);
	snprintf_assert(dir, sizeof(dir), "/proc/irq/%d", irq);

	for (i = 0; i < ARRAY_SIZE(cpus); i++) {
		ASSERT_EQ(0, __sysfs_write(dir, "smp_affinity_list", cpus[i]));
		check_ctrl(d, CTRL_IV);
		check_table(d, tags);
		if (d->sim)
			check_hint(d, 3, 1, tags[3], false);

		/* The next round is with another tag. */
		program(d, 3, 1, other_cpu());
		tags[3] = TAG_V(other_cpu());
	}
}

static u32 firmware_calls(struct tph_device *d)
{
	char calls[16];

	pci_sim_get(d->sim, "hb0", "dsm_calls", calls, sizeof(calls));

	return strtoul(calls, NULL, 0);
}

/*
 * Firmware is slow, so it is asked once for each CPU of a batch, and once whether
 * it knows tags at all.
 */
TEST_F(vfio_pci_tph_st_test, firmware_calls)
{
	u32 cpus[MAX_ENTRIES], before, i;
	struct tph_device *d = &self->d;

	if (!self->d.sim)
		SKIP(return, "Needs a simulated device");
	tph_start(d);
	for (i = 0; i < nr_entries(d); i++)
		cpus[i] = i % 2 ? other_cpu() : 0;

	before = firmware_calls(d);
	vfio_pci_tph_st(d->device, SRC_CPU_V, 0, nr_entries(d), cpus);
	ASSERT_EQ(before + 1 + 1 + !!other_cpu(), firmware_calls(d));

	if (!has_ext(d))
		return;

	/* The answer has all tags, so they are there when the type changes. */
	before = firmware_calls(d);
	vfio_pci_tph_st(d->device, SRC_NONE, 0, nr_entries(d), NULL);
	set_ctrl(d, CTRL_IV_EXT);
	ASSERT_EQ(before, firmware_calls(d));
}

/*
 * All requests since trace_start() carried @st, or no hint. Returns whether some
 * came before a write to the control register, and some behind it.
 */
static bool check_requests(struct tph_device *d, u16 st)
{
	bool before = false, window = false, behind = false;
	const struct pci_sim_record *record;
	size_t i;

	pci_sim_trace_stop(d->trace);

	for (i = 0; i < d->trace->nr; i++) {
		record = &d->trace->records[i];
		if (record->type == PCI_SIM_CFG_WRITE &&
		    pci_sim_record_config(record, d->bdf,
					  d->pos + PCI_TPH_CTRL, 4))
			window = true;
		if (record->type != PCI_SIM_TLP_MWR ||
		    !pci_sim_record_match(record, d->bdf))
			continue;

		before |= !window;
		behind |= window;
		VFIO_ASSERT_EQ(record->fate, PCI_SIM_FATE_OK);
		if (record->flags & PCI_SIM_RECORD_TH)
			VFIO_ASSERT_EQ(record->st, st, "Record %zu\n", i);
	}

	return before && behind;
}

/*
 * The device goes on sending while vectors are made for others of its queues,
 * and the eventfd of its own is exchanged.
 */
TEST_F_TIMEOUT(vfio_pci_tph_st_test, traffic, 120)
{
	struct pci_sim_desc desc = {
		.op = PCI_SIM_OP_WRITE,
		.len = 64,
		.count = 2000,
		.vector = 3,
	};
	struct tph_device *d = &self->d;
	int vector, overlapped = 0;

	if (!self->d.sim)
		SKIP(return, "Needs a simulated device");
	if (cap_loc(d->cap) != PCI_TPH_LOC_MSIX)
		SKIP(return, "The table is not in MSI-X");

	vfio_pci_tph_opt_in(d->device);
	program(d, 0, nr_entries(d), 0);
	vfio_pci_msix_enable(d->device, 0, 4);
	set_ctrl(d, CTRL_IV);
	/* Maps the memory, too */
	check_hint(d, 3, 1, TAG_V(0), false);
	desc.dst = d->region.iova;

	for (vector = 4; vector < nr_entries(d); vector++) {
		trace_start(d);
		pci_sim_engine_start(d->device, &desc);
		usleep(1000);
		vfio_pci_msix_enable(d->device, vector, 1);
		set_eventfd(d, 3, -1);
		set_eventfd(d, 3, d->device->msi_eventfds[3]);
		ASSERT_EQ(0, pci_sim_engine_wait(d->device));
		overlapped += check_requests(d, TAG_V(0));
		check_tags_upto(d, vector + 1);
	}

	ASSERT_GT(overlapped, 0);
}

/* --- Literal tags --- */

FIXTURE(vfio_pci_tph_literal) {
	struct tph_device d;
};

FIXTURE_VARIANT(vfio_pci_tph_literal) {
	u32 loc;
};

FIXTURE_VARIANT_ADD(vfio_pci_tph_literal, cap) {
	.loc = PCI_TPH_LOC_CAP,
};

FIXTURE_VARIANT_ADD(vfio_pci_tph_literal, msix) {
	.loc = PCI_TPH_LOC_MSIX,
};

FIXTURE_SETUP(vfio_pci_tph_literal)
{
	const char *reason;

	reason = device_setup(&self->d, 3, variant->loc);
	if (reason)
		SKIP(return, "%s", reason);
}

FIXTURE_TEARDOWN(vfio_pci_tph_literal)
{
	device_teardown(&self->d);
}

TEST_F_TIMEOUT(vfio_pci_tph_literal, ranges, 120)
{
	static const struct {
		u32 flags;
		u32 tag;
		int ret;
	} cases[] = {
		{ 0,			0,		1 },
		{ 0,			1,		1 },
		{ 0,			0xff,		1 },
		{ 0,			0x100,		-EINVAL },
		{ 0,			0xffff,		-EINVAL },
		{ 0,			~0u,		-EINVAL },
		{ REQUIRE_ST,		0xff,		1 },
		{ REQUIRE_ST,		0,		-ENOENT },
		{ REQUIRE_ST,		0x100,		-EINVAL },
		{ EXTENDED,		0,		1 },
		{ EXTENDED,		0x12,		1 },
		{ EXTENDED,		0xffff,		1 },
		{ EXTENDED,		0x10000,	-EINVAL },
		{ EXTENDED,		~0u,		-EINVAL },
		{ EXTENDED | REQUIRE_ST, 0xffff,	1 },
		{ EXTENDED | REQUIRE_ST, 0,		-ENOENT },
	};
	struct tph_device *d = &self->d;
	u16 tags[MAX_ENTRIES];
	int i, j, ret, ext;

	if (!self->d.sim)
		SKIP(return, "Needs a simulated device");
	tph_start(d);

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		/* Behind one that is good */
		u32 dests[] = { 0x77, cases[i].tag };

		ext = cases[i].flags & EXTENDED;
		set_ctrl(d, ext ? CTRL_IV_EXT : CTRL_IV);
		fill_tags(tags, 0, MAX_ENTRIES, 0x11);
		for (j = 0; j < nr_entries(d); j++)
			vfio_pci_tph_st(d->device, SRC_LITERAL | ext, j, 1,
					(u32[]){ 0x11 });

		ret = try_st(d, SRC_LITERAL | cases[i].flags, 3, 1, dests + 1);
		ASSERT_EQ(cases[i].ret, ret)
			TH_LOG("Flags %#x, tag %#x", cases[i].flags,
			       cases[i].tag);
		if (ret > 0)
			tags[3] = cases[i].tag;
		check_table(d, tags);

		ret = try_st(d, SRC_LITERAL | cases[i].flags, 6, 2, dests);
		ASSERT_EQ(1 + (cases[i].ret > 0), ret);
		tags[6] = 0x77;
		if (cases[i].ret > 0)
			tags[7] = cases[i].tag;
		check_ctrl(d, ext ? CTRL_IV_EXT : CTRL_IV);
		check_table(d, tags);
		check_hint(d, 7, 1, tags[7], ext);
	}
}

/* A batch ends where a tag is missing, and what is before it stays. */
TEST_F(vfio_pci_tph_literal, required)
{
	struct tph_device *d = &self->d;
	u16 tags[MAX_ENTRIES];
	u32 literals[4];
	int k;

	if (!self->d.sim)
		SKIP(return, "Needs a simulated device");
	tph_start(d);

	for (k = 0; k < ARRAY_SIZE(literals); k++) {
		program(d, 0, nr_entries(d), 0);
		fill_tags(tags, 0, MAX_ENTRIES, TAG_V(0));
		fill_tags(tags, 1, k, 0x77);

		fill_cpus(literals, ARRAY_SIZE(literals), 0x77);
		literals[k] = 0;
		trace_start(d);
		ASSERT_EQ(k ?: -ENOENT,
			  try_st(d, SRC_LITERAL | REQUIRE_ST, 1,
				 ARRAY_SIZE(literals), literals))
			TH_LOG("Entry %d", k);

		if (!k)
			check_untouched(d);
		check_ctrl(d, CTRL_IV);
		check_table(d, tags);
	}
}

/* Device Specific mode is no reason for Extended TPH. */
TEST_F(vfio_pci_tph_literal, keeps_type)
{
	struct tph_device *d = &self->d;

	if (!self->d.sim)
		SKIP(return, "Needs a simulated device");
	tph_start(d);
	check_keeps_type(d, CTRL_DS);
	check_keeps_type(d, CTRL_DS_EXT);
	check_keeps_type(d, CTRL_IV_EXT);
}

/* The tags of CPUs that the caller may not run on are not told either. */
TEST_F(vfio_pci_tph_literal, cpuset)
{
	char root[] = "/tmp/vfio_pci_tph_test.XXXXXX";
	struct tph_device *d = &self->d;
	const char *reason;
	int denied, allowed;

	if (!other_cpu())
		SKIP(return, "One CPU");
	if (!self->d.sim)
		SKIP(return, "Needs a simulated device");
	vfio_pci_tph_opt_in(d->device);

	reason = cpuset_init(root);
	if (!reason) {
		denied = resolve_in_cpuset(d, root, 1);
		allowed = resolve_in_cpuset(d, root, 0);
	}
	cpuset_cleanup(root);
	if (reason)
		SKIP(return, "%s", reason);

	ASSERT_EQ(-EPERM, denied);
	ASSERT_EQ(0, allowed);
}

/* Who may program any tag sees what is programmed, for the requests enabled. */
TEST_F(vfio_pci_tph_literal, view)
{
	static const u32 literal[] = { 0x21, 0x22, 0x23, 0x24 };
	static const u32 ext[] = { 0x1234, 0x5678 };
	u16 tags[MAX_ENTRIES] = {}, xtags[MAX_ENTRIES] = {};
	struct tph_device *d = &self->d;

	if (cap_loc(d->cap) != PCI_TPH_LOC_CAP)
		SKIP(return, "The table is not in config space");
	if (!self->d.sim)
		SKIP(return, "Needs a simulated device");

	vfio_pci_tph_opt_in(d->device);
	check_view(d, tags);

	vfio_pci_tph_st(d->device, SRC_LITERAL, 1, 4, literal);
	vfio_pci_tph_st(d->device, SRC_LITERAL | EXTENDED, 2, 2, ext);
	tags[1] = 0x21;
	tags[4] = 0x24;
	xtags[2] = 0x1234;
	xtags[3] = 0x5678;
	check_view(d, tags);

	set_ctrl(d, CTRL_IV_EXT);
	check_view(d, xtags);
	check_table(d, xtags);

	/* Writing is for TPH_ST. */
	trace_start(d);
	write_everywhere(d, PCI_TPH_BASE_SIZEOF);
	check_untouched(d);
	check_view(d, xtags);

	set_ctrl(d, CTRL_IV);
	check_view(d, tags);

	/* What waits for D0 is wanted, too. */
	set_power_state(d, PM_D3HOT);
	vfio_pci_tph_st(d->device, SRC_NONE, 1, 1, NULL);
	tags[1] = 0;
	check_view(d, tags);
	set_power_state(d, PM_D0);
	check_view(d, tags);
	check_table(d, tags);

	vfio_pci_device_reset(d->device);
	memset(tags, 0, sizeof(tags));
	check_view(d, tags);
	set_ctrl(d, CTRL_IV_EXT);
	check_view(d, tags);
}

/* --- What is there for people --- */

TEST_F(vfio_pci_tph_literal, debugfs)
{
	struct tph_device *d = &self->d;
	char buf[SZ_4K], expected[256];

	if (!debugfs_read(d, buf, sizeof(buf)))
		SKIP(return, "debugfs has no file \"tph\" of the device");

	ASSERT_STREQ("opted in: no\n", debugfs_read(d, buf, sizeof(buf)));

	vfio_pci_tph_opt_in(d->device);
	set_ctrl(d, CTRL_IV);
	vfio_pci_tph_st(d->device, SRC_LITERAL, 1, 2, (u32[]){ 0x12, 0 });
	vfio_pci_tph_st(d->device, SRC_LITERAL | EXTENDED, 5, 1,
			(u32[]){ 0x34 });
	snprintf_assert(expected, sizeof(expected),
			"opted in: yes\ncapability: %#010x\n"
			"control: %#010x, Interrupt Vector mode, requests: TPH\n"
			"PCI core: %#010x\n"
			"entry 1: 0x12\nentry 5: 0x0034, extended\n",
			shown_cap(d->cap, d->level), CTRL_IV, CTRL_IV);
	ASSERT_STREQ(expected, debugfs_read(d, buf, sizeof(buf)));
}

#define TRACEFS		"/sys/kernel/tracing"
#define TRACE_INSTANCE	TRACEFS "/instances/vfio_pci_tph_test"

/* Compare the tracepoints that were hit with @expected, and forget them. */
static void check_tracepoints(struct tph_device *d, const char *expected)
{
	char line[512], event[32], lines[SZ_4K] = "";
	FILE *file = fopen(TRACE_INSTANCE "/trace", "re");
	char format[64];
	int len, nr, fd;
	char *hit;

	VFIO_ASSERT_NOT_NULL(file);
	while (fgets(line, sizeof(line), file)) {
		/* "TASK-PID [CPU] ... TIME: vfio_pci_tph_EVENT: BDF: ..." */
		hit = strstr(line, ": vfio_pci_tph_");
		if (*line == '#' || !hit)
			continue;

		snprintf_assert(format, sizeof(format),
				": vfio_pci_tph_%%31[a-z]: %s: %%n", d->bdf);
		len = 0;
		nr = sscanf(hit, format, event, &len);
		VFIO_ASSERT_EQ(nr, 1);
		VFIO_ASSERT_GT(len, 0, "%s\n", hit);
		VFIO_ASSERT_LT(strlen(lines) + sizeof(line) + sizeof(event),
			       sizeof(lines));
		strcat(strcat(strcat(lines, event), ": "), hit + len);
	}
	fclose(file);

	VFIO_ASSERT_EQ(strcmp(lines, expected), 0, "%s, not %s\n", lines,
		       expected);

	fd = open(TRACE_INSTANCE "/trace", O_WRONLY | O_TRUNC | O_CLOEXEC);
	VFIO_ASSERT_GE(fd, 0);
	VFIO_ASSERT_EQ(close(fd), 0);
}

TEST_F(vfio_pci_tph_literal, tracepoints)
{
	struct vfio_device_feature_tph_resolve resolve;
	struct tph_device *d = &self->d;
	u32 tags[] = { 0x1234, 0x12345 };
	char expected[256];

	if (!d->sim)
		SKIP(return, "Needs a simulated device");
	if (access(TRACEFS "/events/vfio_pci", F_OK))
		SKIP(return, "tracefs is not mounted, or has no events of vfio_pci");

	rmdir(TRACE_INSTANCE);
	ASSERT_EQ(0, mkdir(TRACE_INSTANCE, 0700));
	ASSERT_EQ(0, __sysfs_write(TRACE_INSTANCE "/events/vfio_pci", "enable", "1"));

	vfio_pci_tph_opt_in(d->device);
	vfio_pci_config_writeb(d->device, d->pos + PCI_TPH_CTRL,
			       PCI_TPH_ST_IV_MODE);
	check_tracepoints(d, "");

	enable_vectors(d);
	set_ctrl(d, CTRL_IV);
	set_ctrl(d, CTRL_IV_EXT);
	check_tracepoints(d, "enable: control=0x101 old=0x1\n"
			     "enable: control=0x301 old=0x101\n");

	program(d, 1, 3, 0);
	ASSERT_EQ(1, try_st(d, SRC_LITERAL | EXTENDED, 4, 2, tags));
	ASSERT_EQ(-EINVAL, try_st(d, SRC_NONE, 5, 0, NULL));
	check_tracepoints(d,
			  "program: start=1 count=3 flags=CPU_VOLATILE ret=3\n"
			  "program: start=4 count=2 flags=EXTENDED|LITERAL ret=1\n"
			  "program: start=5 count=0 flags=NONE ret=-22\n");

	ASSERT_EQ(0, __vfio_pci_tph_resolve(d->device, SRC_CPU_P, 0, &resolve));
	ASSERT_EQ(-EINVAL, __vfio_pci_tph_resolve(d->device,
						  SRC_CPU_V | EXTENDED, ~0u,
						  &resolve));
	snprintf_assert(expected, sizeof(expected),
			"resolve: src=0 flags=CPU_PERSISTENT valid=0x2 ph=0 st=%#x ret=0\n"
			"resolve: src=4294967295 flags=CPU_VOLATILE|EXTENDED valid=0x0 ph=0 st=0x0 ret=-22\n",
			TAG_P(0));
	check_tracepoints(d, expected);

	/* However it comes that TPH is off */
	vfio_pci_device_reset(d->device);
	set_ctrl(d, CTRL_NS);
	pci_sim_reset(d->sim, d->ep);
	ASSERT_EQ(CTRL_OFF, user_read(d, PCI_TPH_CTRL));
	vfio_pci_cmd_set(d->device, COMMAND_ON);
	set_ctrl(d, CTRL_NS);
	tph_reopen(d);
	check_tracepoints(d, "disable: control=0x0 old=0x301\n"
			     "enable: control=0x100 old=0x0\n"
			     "disable: control=0x0 old=0x100\n"
			     "enable: control=0x100 old=0x0\n"
			     "disable: control=0x0 old=0x100\n");
	ASSERT_EQ(0, rmdir(TRACE_INSTANCE));
}

/* --- Devices of many shapes, side by side --- */

FIXTURE(vfio_pci_tph_shapes) {
	struct pci_sim *sim;
	u64 violations;
};

FIXTURE_VARIANT(vfio_pci_tph_shapes) {
	int level;
};

FIXTURE_VARIANT_ADD(vfio_pci_tph_shapes, 0) {
	.level = 0,
};

FIXTURE_VARIANT_ADD(vfio_pci_tph_shapes, 1) {
	.level = 1,
};

FIXTURE_VARIANT_ADD(vfio_pci_tph_shapes, 2) {
	.level = 2,
};

FIXTURE_VARIANT_ADD(vfio_pci_tph_shapes, 3) {
	.level = 3,
};

FIXTURE_SETUP(vfio_pci_tph_shapes)
{
	const char *reason;

	if (device_bdf)
		SKIP(return, "Needs simulated devices");
	if (!pci_sim_available())
		SKIP(return, "pci_sim is not loaded");

	undo();
	reason = vfio_pci_tph_set_level(variant->level);
	if (reason)
		SKIP(return, "%s", reason);

	self->violations = pci_sim_violations();
	self->sim = pci_sim_init(SIM_NAME);
	pci_sim_add(self->sim, "hb0", "acpi_path=\\_SB.PSM0");
}

/* The devices that are open, also when a test has failed */
static struct tph_device *shape;

static void shape_close(struct tph_device *d)
{
	shape = d->next;
	tph_close(d);
	pci_sim_trace_cleanup(d->trace);
}

FIXTURE_TEARDOWN(vfio_pci_tph_shapes)
{
	while (shape)
		shape_close(shape);
	VFIO_ASSERT_EQ(pci_sim_violations(), self->violations);
	pci_sim_cleanup(self->sim);
}

/* Open one of the devices. The one that is opened last is closed first. */
static void shape_open_as(struct tph_device *d, const char *driver)
{
	d->trace = pci_sim_trace_init();
	d->next = shape;

	pci_sim_get_bdf(d->sim, d->ep, d->bdf);
	sysfs_driver_bind(d->bdf, driver);
	tph_open(d);
	shape = d;
	find_cap(d);
}

static void shape_open_with(struct tph_device *d, struct pci_sim *sim,
			    const char *ep, int level, const char *driver,
			    const char *vf_token)
{
	*d = (struct tph_device) {
		.sim = sim,
		.ep = ep,
		.level = level,
		.vf_token = vf_token,
	};

	shape_open_as(d, driver);
}

static void shape_open(struct tph_device *d, struct pci_sim *sim,
		       const char *ep, int level)
{
	shape_open_with(d, sim, ep, level, "vfio-pci", NULL);
}

/* Each endpoint has a Root Port of its own. */
static const char *ep_name(int nr)
{
	static char name[32];

	snprintf_assert(name, sizeof(name), "hb0/rp%d/ep0", nr);

	return name;
}

static void add_endpoint(struct pci_sim *sim, int nr, const char *attrs)
{
	pci_sim_add(sim, ep_name(nr), attrs);
}

/* Every bit of the capability register, for every kind of device */
TEST_F_TIMEOUT(vfio_pci_tph_shapes, capability, 120)
{
	static const u32 modes[] = { 1, 3, 5, 7 };
	int i, nr = ARRAY_SIZE(modes) * 3 * 2, loc, ret;
	struct tph_device d;
	char attrs[128];
	u32 cap, ext;

	for (i = 0; i < nr; i++) {
		snprintf_assert(attrs, sizeof(attrs),
				"tph_ext=%d tph_modes=%u tph_loc=%d tph_st_size=7",
				i % 2, modes[i / 6], i / 2 % 3);
		add_endpoint(self->sim, i, attrs);
	}
	pci_sim_set_live(self->sim, true);

	for (i = 0; i < nr; i++) {
		ext = i % 2 ? PCI_TPH_CAP_EXT_TPH : 0;
		loc = i / 2 % 3;
		shape_open(&d, self->sim, ep_name(i), variant->level);
		cap = modes[i / 6] | ext |
		      FIELD_PREP(PCI_TPH_CAP_LOC_MASK, loc) |
		      FIELD_PREP(PCI_TPH_CAP_ST_MASK, loc ? 7 : 0);
		/* The size means nothing where there is no table. */
		ASSERT_EQ(cap, d.cap & ~(loc ? 0 : PCI_TPH_CAP_ST_MASK));
		ASSERT_EQ(d.cap, user_read(&d, PCI_TPH_CAP));

		vfio_pci_tph_opt_in(d.device);
		ASSERT_EQ(shown_cap(cap, d.level), user_read(&d, PCI_TPH_CAP))
			TH_LOG("Modes %u, location %d, %#x", modes[i / 6], loc, ext);

		ret = probe(&d, VFIO_DEVICE_FEATURE_TPH_ST);
		ASSERT_EQ(has_table(&d) ? 0 : denied(kernel.st), ret)
			TH_LOG("Modes %u, location %d, %#x", modes[i / 6], loc, ext);
		shape_close(&d);
	}
}

static void check_refused(struct tph_device *d)
{
	const struct {
		u16 nr;
		int ret;
	} features[] = {
		{ VFIO_DEVICE_FEATURE_TPH, -EOPNOTSUPP },
		{ VFIO_DEVICE_FEATURE_TPH_RESOLVE, denied(kernel.resolve) },
		{ VFIO_DEVICE_FEATURE_TPH_ST, denied(kernel.st) },
		{ VFIO_DEVICE_FEATURE_DMA_BUF_TPH, denied(kernel.dma_buf) },
	};
	static const u32 ops[] = { PROBE, PROBE | GET, PROBE | SET, GET, SET };
	int fd = d->device->fd, i, j, ret;

	for (i = 0; i < ARRAY_SIZE(features); i++) {
		for (j = 0; j < ARRAY_SIZE(ops); j++) {
			u8 data[16] = {};

			ret = __vfio_device_feature(fd, ops[j] | features[i].nr,
						    data, sizeof(data));
			VFIO_ASSERT_EQ(ret, features[i].ret,
				       "%s: feature %u, operation %#x\n",
				       d->ep, features[i].nr, ops[j]);
		}
	}
}

/* The capability is there as ever, and does nothing. */
static void check_inert(struct tph_device *d)
{
	u8 before[PCI_CFG_SPACE_EXP_SIZE], after[sizeof(before)];
	int i;

	if (!d->pos)
		return;

	vfio_pci_config_access(d->device, false, 0, sizeof(before), before);
	VFIO_ASSERT_EQ(user_read(d, PCI_TPH_CAP), d->cap);
	VFIO_ASSERT_EQ(user_read(d, PCI_TPH_CTRL), CTRL_OFF);

	trace_start(d);
	vfio_pci_config_writel(d->device, d->pos + PCI_TPH_CTRL, CTRL_NS);
	VFIO_ASSERT_EQ(count_cap_writes(d, PCI_TPH_BASE_SIZEOF), 0);
	VFIO_ASSERT_EQ(hw_ctrl(d), CTRL_OFF);

	vfio_pci_config_access(d->device, false, 0, sizeof(after), after);
	for (i = 0; i < sizeof(before); i++)
		VFIO_ASSERT_EQ(before[i], after[i], "Offset %#x\n", i);
	check_no_hint(d, 0);
}

/* Devices of these shapes cannot be opted in. */
static void check_bad_shapes(struct pci_sim *sim, int level,
			     const char * const *shapes, int nr)
{
	struct tph_device d;
	int i;

	for (i = 0; i < nr; i++)
		add_endpoint(sim, i, shapes[i]);
	pci_sim_set_live(sim, true);

	for (i = 0; i < nr; i++) {
		printf("# %s\n", shapes[i]);
		shape_open(&d, sim, ep_name(i), level);
		check_refused(&d);
		check_inert(&d);
		shape_close(&d);
	}
}

TEST_F(vfio_pci_tph_shapes, bad_size)
{
	static const char * const shapes[] = {
		"tph_loc=1 tph_st_size=2047",
		"tph_loc=1 tph_st_size=64",
	};

	check_bad_shapes(self->sim, variant->level, shapes, ARRAY_SIZE(shapes));
}

TEST_F(vfio_pci_tph_shapes, past_end)
{
	static const char * const shapes[] = {
		"tph_loc=1 tph_st_size=15 tph_pos=0xff0",
		"tph_loc=1 tph_st_size=63 tph_pos=0xf78",
	};

	check_bad_shapes(self->sim, variant->level, shapes, ARRAY_SIZE(shapes));
}

TEST_F_TIMEOUT(vfio_pci_tph_shapes, bad_hardware, 120)
{
	static const char * const shapes[] = {
		"tph=0",
		"tph_loc=3",
		"tph_loc=2 msix=0",
		"tph_modes=0",
		"tph_modes=6",
	};

	check_bad_shapes(self->sim, variant->level, shapes, ARRAY_SIZE(shapes));
}

/* Nothing is wrong with these, but with what the kernel has been told. */
TEST_F_TIMEOUT(vfio_pci_tph_shapes, notph, 120)
{
	static const char * const shapes[] = {
		"tph_modes=7 tph_ext=1 tph_completer=3 tph_loc=1",
		"tph_modes=7 tph_ext=1 tph_completer=3 tph_loc=2",
	};

	if (!vfio_pci_tph_turned_off())
		SKIP(return, "Needs pci=notph on the kernel's command line");

	check_bad_shapes(self->sim, variant->level, shapes, ARRAY_SIZE(shapes));
}

/* The largest table, and one that ends where config space does */
TEST_F_TIMEOUT(vfio_pci_tph_shapes, large_tables, 120)
{
	static const struct {
		const char *attrs;
		int entries;
	} shapes[] = {
		{ "tph_loc=1 tph_st_size=63", 64 },
		{ "tph_loc=1 tph_st_size=63 tph_pos=0xf74", 64 },
		{ "tph_loc=2 tph_st_size=31 msix=8", 8 },
		{ "tph_loc=2 tph_st_size=7 msix=32", 8 },
		{ "tph_loc=2 tph_st_size=2047 msix=32", 32 },
	};
	u16 tags[MAX_ENTRIES];
	struct tph_device d;
	int i, nr;

	if (!variant->level)
		SKIP(return, "No table at this level");

	for (i = 0; i < ARRAY_SIZE(shapes); i++)
		add_endpoint(self->sim, i, shapes[i].attrs);
	pci_sim_set_live(self->sim, true);

	for (i = 0; i < ARRAY_SIZE(shapes); i++) {
		TH_LOG("%s", shapes[i].attrs);
		shape_open(&d, self->sim, ep_name(i), variant->level);
		nr = shapes[i].entries;
		ASSERT_EQ(nr, nr_entries(&d));
		tph_start(&d);
		ASSERT_EQ(nr - 1, FIELD_GET(PCI_TPH_CAP_ST_MASK,
					    user_read(&d, PCI_TPH_CAP)));
		check_started(&d);
		ASSERT_EQ(-EINVAL, try_st(&d, SRC_NONE, nr, 1, NULL));
		ASSERT_EQ(-EINVAL, try_st(&d, SRC_NONE, 0, nr + 1, NULL));
		fill_tags(tags, 0, MAX_ENTRIES, TAG_V(0));
		check_batch(&d, CTRL_IV, nr - 1, 1, tags);
		check_batch(&d, CTRL_IV, 0, min(nr, 16), tags);
		check_batch(&d, CTRL_IV, 0, nr, tags);
		shape_close(&d);
	}
}

/* The register that changes after the device was found is not believed. */
TEST_F(vfio_pci_tph_shapes, changed_capability)
{
	struct tph_device d;

	add_endpoint(self->sim, 0, "tph_loc=1 tph_st_size=3");
	pci_sim_set_live(self->sim, true);
	pci_sim_set(self->sim, SIM_EP, "tph_cap", "0x07ff0207");

	shape_open(&d, self->sim, SIM_EP, variant->level);
	ASSERT_EQ(0x07ff0207, d.cap);
	check_refused(&d);
	check_inert(&d);
	shape_close(&d);
}

static u32 read_tail(struct tph_device *d, u16 tail)
{
	u16 value;

	sysfs_config_access(d->bdf, false, tail, sizeof(value), &value);

	return value;
}

/*
 * Half a dword is left behind a table of odd size: it belongs to no capability,
 * but it is no register either.
 */
TEST_F(vfio_pci_tph_shapes, odd_tail)
{
	static const u32 ones = ~0u;
	struct tph_device d;
	int opted_in, width;
	u16 tail;

	add_endpoint(self->sim, 0, "tph_loc=1 tph_st_size=14");
	pci_sim_set_live(self->sim, true);
	shape_open(&d, self->sim, SIM_EP, variant->level);
	tail = d.pos + d.len;
	ASSERT_EQ(2, tail % 4);

	for (opted_in = 0; opted_in <= 1; opted_in++) {
		if (opted_in)
			tph_start(&d);

		pci_sim_trace_start(d.trace);
		for (width = 1; width <= 2; width++)
			vfio_pci_config_access(d.device, true, tail, width,
					       (void *)&ones);
		vfio_pci_config_writeb(d.device, tail + 1, 0xff);
		vfio_pci_config_writel(d.device, tail - 2, ones);
		vfio_pci_config_writel(d.device, tail - 1, ones & 0xffffff);
		ASSERT_EQ(0, count_cap_writes(&d, d.len + 2));
		ASSERT_EQ(0, read_tail(&d, tail));
		ASSERT_EQ(0, vfio_pci_config_readw(d.device, tail));
	}

	check_started(&d);
	shape_close(&d);
}

/* Without No_Soft_Reset the device loses everything in D3hot. */
TEST_F_TIMEOUT(vfio_pci_tph_shapes, soft_reset, 120)
{
	struct tph_device d;
	int i;

	add_endpoint(self->sim, 0, "tph_loc=1 no_soft_reset=0");
	add_endpoint(self->sim, 1, "tph_loc=2 no_soft_reset=0");
	pci_sim_set_live(self->sim, true);

	for (i = 0; i < 2; i++) {
		TH_LOG("%s", ep_name(i));
		shape_open(&d, self->sim, ep_name(i), variant->level);
		check_power_state(&d);

		tph_start(&d);
		low_power_cycle(&d);
		check_started(&d);
		low_power_wakeup(&d);
		check_started(&d);
		shape_close(&d);
	}
}

static void write_af_flr(struct tph_device *d)
{
	u16 af = vfio_pci_find_cap(d->device, PCI_CAP_ID_AF);

	VFIO_ASSERT_NE(af, 0);
	vfio_pci_config_writeb(d->device, af + PCI_AF_CTRL, PCI_AF_CTRL_FLR);
}

TEST_F_TIMEOUT(vfio_pci_tph_shapes, af_flr, 120)
{
	struct tph_device d;
	int i;

	add_endpoint(self->sim, 0, "tph_loc=1 flr=0 af_flr=1");
	add_endpoint(self->sim, 1, "tph_loc=2 flr=0 af_flr=1");
	pci_sim_set_live(self->sim, true);

	for (i = 0; i < 2; i++) {
		TH_LOG("%s", ep_name(i));
		shape_open(&d, self->sim, ep_name(i), variant->level);
		check_resets(&d, write_af_flr);

		/* Also if it is refused */
		ASSERT_EQ(0, write_device(&d, "reset_method", "\n"));
		check_resets(&d, write_af_flr);
		shape_close(&d);
	}
}

/* A hot reset through the file of another function reaches this one as well. */
static struct tph_device *hot_reset_through;

static void hot_reset_of_set(struct tph_device *d)
{
	hot_reset(hot_reset_through);
}

/*
 * While @busy is being reset by itself the set cannot be. A hot reset that comes
 * between two of these resets is none that is refused.
 */
static void check_refused_hot_reset(struct tph_device *d,
				    struct tph_device *busy)
{
	pid_t child = disturb_start(busy, disturb_reset);
	int ret, tries = 100;

	do {
		tph_start(d);
		ret = try_hot_reset(d);
	} while (ret != -EBUSY && --tries);

	disturb_stop(child);
	VFIO_ASSERT_EQ(ret, -EBUSY);
	check_started(d);
}

TEST_F_TIMEOUT(vfio_pci_tph_shapes, hot_reset_of_set, 120)
{
	static const char * const eps[] = { SIM_EP, "hb0/rp0/ep1" };
	struct tph_device ds[2] = {};
	int i;

	pci_sim_add(self->sim, eps[0], "tph_loc=1");
	pci_sim_add(self->sim, eps[1], "tph_loc=2");
	pci_sim_set_live(self->sim, true);

	for (i = 0; i < 2; i++) {
		ds[i].sim = self->sim;
		ds[i].ep = eps[i];
		ds[i].level = variant->level;
		ds[i].beside = i ? &ds[0] : NULL;
	}

	/* Nobody has the other one, so it is not the user's to reset. */
	shape_open_as(&ds[0], "vfio-pci");
	tph_start(&ds[0]);
	ASSERT_EQ(-EINVAL, try_hot_reset(&ds[0]));
	check_started(&ds[0]);

	/* One that is reset by itself leaves the other one alone. */
	shape_open_as(&ds[1], "vfio-pci");
	tph_start(&ds[1]);
	vfio_pci_device_reset(ds[1].device);
	check_reset(&ds[1]);
	check_started(&ds[0]);
	vfio_pci_device_reset(ds[0].device);

	for (i = 0; i < 2; i++) {
		hot_reset_through = &ds[!i];
		check_resets(&ds[i], hot_reset_of_set);
		check_refused_hot_reset(&ds[i], &ds[!i]);
	}

	/* Both at once */
	tph_start(&ds[0]);
	tph_start(&ds[1]);
	hot_reset(&ds[0]);
	check_reset(&ds[0]);
	check_reset(&ds[1]);

	shape_close(&ds[1]);
	shape_close(&ds[0]);
}

static void device_reset_without_effect(struct tph_device *d)
{
	trace_start(d);
	vfio_pci_device_reset(d->device);
	check_not_reset(d);
}

static void hot_reset_without_effect(struct tph_device *d)
{
	trace_start(d);
	hot_reset(d);
	check_not_reset(d);
}

/* The PCI core believes that it has reset the device, and so does the user. */
TEST_F_TIMEOUT(vfio_pci_tph_shapes, reset_without_effect, 120)
{
	struct tph_device d;
	char port[16];
	int i;

	for (i = 0; i < 2; i++) {
		add_endpoint(self->sim, i, i ? "tph_loc=2 flr=0" :
					       "tph_loc=1 flr=0");
		snprintf_assert(port, sizeof(port), "hb0/rp%d", i);
		pci_sim_set(self->sim, port, "bus_reset", "0");
	}
	pci_sim_set_live(self->sim, true);

	for (i = 0; i < 2; i++) {
		TH_LOG("%s", ep_name(i));
		shape_open(&d, self->sim, ep_name(i), variant->level);
		check_resets(&d, device_reset_without_effect);
		check_resets(&d, hot_reset_without_effect);
		shape_close(&d);
	}
}

/*
 * Resets that fail after they have reached the device. The PCI core waits for
 * more than a minute, so that is for all of them at once.
 */
TEST_F_TIMEOUT(vfio_pci_tph_shapes, failed_reset, 300)
{
	struct tph_device ds[4], *d;
	char eps[ARRAY_SIZE(ds)][32];
	pid_t children[ARRAY_SIZE(ds)];
	int i, status;

	if (variant->level < 3)
		SKIP(return, "It takes long, and level 3 has all");

	for (i = 0; i < ARRAY_SIZE(ds); i++) {
		snprintf_assert(eps[i], sizeof(eps[i]), "hb0/rp%d/ep0", i);
		pci_sim_add(self->sim, eps[i], "flr=0 no_soft_reset=0");
		pci_sim_add(self->sim, eps[i], i % 2 ? "tph_loc=2" :
						       "tph_loc=1");
	}
	pci_sim_set_live(self->sim, true);

	for (i = 0; i < ARRAY_SIZE(ds); i++) {
		d = &ds[i];
		shape_open(d, self->sim, eps[i], variant->level);
		tph_start(d);
		check_started(d);
		/* Or another method follows, which takes a minute, too. */
		ASSERT_EQ(0, write_device(d, "reset_method", "pm"));
		pci_sim_set(self->sim, eps[i], "hang", "1");
	}

	for (i = 0; i < ARRAY_SIZE(ds); i++) {
		children[i] = fork_child();
		if (children[i])
			continue;

		d = &ds[i];
		_exit((i < 2 ? __vfio_pci_device_reset(d->device) :
			       try_hot_reset(d)) != -ENOTTY);
	}

	for (i = 0; i < ARRAY_SIZE(ds); i++) {
		ASSERT_EQ(children[i], waitpid(children[i], &status, 0));
		ASSERT_TRUE(WIFEXITED(status));
		ASSERT_EQ(0, WEXITSTATUS(status));
	}

	for (i = ARRAY_SIZE(ds) - 1; i >= 0; i--) {
		d = &ds[i];
		check_ctrl(d, CTRL_OFF);
		check_table_zero(d);
		pci_sim_set(self->sim, eps[i], "hang", "0");
		vfio_pci_cmd_set(d->device, COMMAND_ON);
		check_reset(d);
		shape_close(d);
	}
}

/* Below one switch */
#define NR_PEERS 2

static void add_peers(struct pci_sim *sim)
{
	pci_sim_add(sim, "hb0/rp0/sw0/dp0/ep0", "tph_loc=1");
	pci_sim_add(sim, "hb0/rp0/sw0/dp1/ep0", "tph_loc=2");
}

static void open_peers(struct tph_device *ds, struct pci_sim *sim, int level,
		       bool on)
{
	static const char * const eps[NR_PEERS] = {
		"hb0/rp0/sw0/dp0/ep0", "hb0/rp0/sw0/dp1/ep0",
	};
	int i;

	for (i = 0; i < NR_PEERS; i++) {
		shape_open(&ds[i], sim, eps[i], level);
		/* With TPH off nothing else tells of a reset. */
		vfio_pci_cmd_set(ds[i].device, on ? 0 : COMMAND_ON);
		tph_start(&ds[i]);
		if (!on)
			set_ctrl(&ds[i], CTRL_OFF);
		check_filled(&ds[i], on ? ctrl_on(&ds[i]) : CTRL_OFF);
	}
}

/* The state is lost, and who has noticed that can go on. */
static void check_reset_by_error(struct tph_device *ds)
{
	struct tph_device *d;
	int i;

	for (i = NR_PEERS - 1; i >= 0; i--) {
		d = &ds[i];
		VFIO_ASSERT_EQ(hw_ctrl(d), CTRL_OFF);
		check_ctrl(d, CTRL_OFF);
		check_table_zero(d);

		/* The kept table went, too, and the device answers. */
		vfio_pci_cmd_set(d->device, COMMAND_ON);
		set_ctrl(d, ctrl_on(d));
		check_table_zero(d);
		shape_close(d);
	}
}

/*
 * The switch detects a fatal error, and the reset reaches the endpoints, too. No
 * requests follow, since its ports are restored to what their driver has found.
 */
TEST_F_TIMEOUT(vfio_pci_tph_shapes, fatal_aer_of_another, 120)
{
	struct tph_device ds[NR_PEERS];
	int on;

	add_peers(self->sim);
	pci_sim_set_live(self->sim, true);

	for (on = 0; on <= 1; on++) {
		open_peers(ds, self->sim, variant->level, on);
		pci_sim_error_reset(self->sim, "hb0/rp0/sw0", "fatal");
		check_reset_by_error(ds);
	}
}

/*
 * After an error that is not fatal the driver of another device wants a reset,
 * which reaches all of them. Those that it concerns are told of the error alone.
 */
TEST_F_TIMEOUT(vfio_pci_tph_shapes, reset_for_another, 120)
{
	static const char other[] = "hb0/rp0/sw0/dp2/ep0";
	struct tph_device ds[NR_PEERS];
	char bdf[PCI_SIM_BDF_SIZE];
	int on;

	if (system("modprobe pci_sim_dmabuf 2>/dev/null"))
		SKIP(return, "pci_sim_dmabuf cannot be loaded");

	add_peers(self->sim);
	pci_sim_add(self->sim, other, "tph=1");
	pci_sim_set_live(self->sim, true);
	pci_sim_get_bdf(self->sim, other, bdf);
	sysfs_driver_bind(bdf, "pci-sim-dmabuf");

	for (on = 0; on <= 1; on++) {
		open_peers(ds, self->sim, variant->level, on);
		pci_sim_error_reset(self->sim, "hb0/rp0/sw0", "nonfatal");
		check_reset_by_error(ds);
	}
}

/* What the firmware answers about CPU 0: @error, or @tag, which 0 is none */
static void check_answer(struct tph_device *d, u32 flags, int error, u16 tag)
{
	struct vfio_device_feature_tph_resolve resolve;
	u16 tags[MAX_ENTRIES] = { tag };
	u32 cpu = 0;

	if (has_table(d)) {
		set_ctrl(d, flags & EXTENDED ? CTRL_IV_EXT : CTRL_IV);
		vfio_pci_tph_st(d->device, SRC_NONE, 0, 1, NULL);
		VFIO_ASSERT_EQ(try_st(d, flags, 0, 1, &cpu), error ?: 1);
		check_table(d, tags);
		VFIO_ASSERT_EQ(try_st(d, flags | REQUIRE_ST, 0, 1, &cpu),
			       error ?: tag ? 1 : -ENOENT);
		check_table(d, tags);
	}

	if (!resolves(d))
		return;

	VFIO_ASSERT_EQ(__vfio_pci_tph_resolve(d->device, flags, 0, &resolve),
		       error);
	if (error) {
		VFIO_ASSERT_EQ(resolve.valid, PCI_TPH_UNTOUCHED);
		VFIO_ASSERT_EQ(resolve.ph, PCI_TPH_UNTOUCHED);
		return;
	}
	VFIO_ASSERT_EQ(resolve.valid, tag ? VFIO_DEVICE_TPH_VALID_ST : 0);
	VFIO_ASSERT_EQ(resolve.ph, 0);
	VFIO_ASSERT_EQ(resolve.st, tag);
}

/* Firmware that answers, does not, or lies */
TEST_F_TIMEOUT(vfio_pci_tph_shapes, firmware, 120)
{
	const struct {
		const char *acpi_path;
		int error;
		u16 tag;
		u16 xtag;
	} cases[] = {
		{ "\\_SB.PSM0", 0, TAG_V(0), XTAG_V(0) },
		{ "\\_SB.PSM1", 0, TAG_V(0) + 0x20, XTAG_V(0) + 0x20 },
		{ "\\_SB.PSM2", -EOPNOTSUPP },
		{ "\\_SB.PSM3", -EIO },
		{ "\\_SB.PSM4", -EIO },
		/* Tags of one kind are none to requests of the other one. */
		{ "\\_SB.PSM5", 0, TAG_V(0), 0 },
		{ "\\_SB.PSM6", 0, 0, XTAG_V(0) },
		{ NULL, -EOPNOTSUPP },
	};
	char ep[32], bridge[8];
	struct tph_device d;
	int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		snprintf_assert(bridge, sizeof(bridge), "hb%d", i);
		snprintf_assert(ep, sizeof(ep), "%s/rp0/ep0", bridge);
		pci_sim_add(self->sim, ep, "tph_ext=1 tph_loc=1 tph_st_size=3");
		if (cases[i].acpi_path)
			pci_sim_set(self->sim, bridge, "acpi_path",
				    cases[i].acpi_path);
	}
	pci_sim_set_live(self->sim, true);

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		bool cpus = cases[i].error != -EOPNOTSUPP && variant->level >= 1;

		TH_LOG("Host bridge %s", cases[i].acpi_path ?: "without _DSM");
		snprintf_assert(ep, sizeof(ep), "hb%d/rp0/ep0", i);
		shape_open(&d, self->sim, ep, variant->level);
		ASSERT_EQ(cpus ? VFIO_DEVICE_TPH_CAP_CPU : 0,
			  vfio_pci_tph_flags(d.device) &
			  VFIO_DEVICE_TPH_CAP_CPU);

		vfio_pci_tph_opt_in(d.device);
		check_answer(&d, SRC_CPU_V, cases[i].error, cases[i].tag);
		if (!variant->level || has_ext(&d))
			check_answer(&d, SRC_CPU_V | EXTENDED, cases[i].error,
				     cases[i].xtag);
		shape_close(&d);
	}
}

/* Without a completer at the Root Port no hint may be sent. */
TEST_F_TIMEOUT(vfio_pci_tph_shapes, root_port, 120)
{
	static const bool completer[] = { false, true, false, true };
	char port[16], field[8];
	struct tph_device d;
	int i;

	for (i = 0; i < ARRAY_SIZE(completer); i++) {
		add_endpoint(self->sim, i, "tph_ext=1");
		snprintf_assert(port, sizeof(port), "hb0/rp%d", i);
		snprintf_assert(field, sizeof(field), "%d", i);
		pci_sim_set(self->sim, port, "tph_completer", field);
	}
	pci_sim_set_live(self->sim, true);

	for (i = 0; i < ARRAY_SIZE(completer); i++) {
		shape_open(&d, self->sim, ep_name(i), variant->level);
		if (completer[i]) {
			tph_start(&d);
			check_started(&d);
		} else {
			check_refused(&d);
			check_inert(&d);
		}
		shape_close(&d);
	}
}

/* The path as debugfs tells it to a person */
static void check_path(struct tph_device *d, const char *path)
{
	char line[128];

	if (debugfs_line(d, "path: ", line, sizeof(line)))
		VFIO_ASSERT_NOT_NULL(strstr(line, path), "%s: %s\n", d->ep, line);
}

/* Tags that cannot be sent are not told, but the others are. */
static void check_resolve_ext(struct tph_device *d, bool accepted)
{
	struct vfio_device_feature_tph_resolve resolve;
	int ret;

	if (!resolves(d))
		return;

	ret = __vfio_pci_tph_resolve(d->device, SRC_CPU_V, 0, &resolve);
	VFIO_ASSERT_EQ(ret, 0);
	VFIO_ASSERT_EQ(resolve.st, TAG_V(0));

	ret = __vfio_pci_tph_resolve(d->device, SRC_CPU_V | EXTENDED, 0,
				     &resolve);
	VFIO_ASSERT_EQ(ret, accepted ? 0 : -EOPNOTSUPP);
	if (accepted)
		VFIO_ASSERT_EQ(resolve.st, XTAG_V(0));
}

/* Choose Extended TPH, which the register takes, or not. */
static void check_ext(struct tph_device *d, bool accepted)
{
	u32 old = has_table(d) ? CTRL_IV : CTRL_NS;
	u32 new = old | PCI_TPH_CTRL_REQ_EN_MASK;
	u32 cpu = 0;

	set_ctrl(d, old);
	vfio_pci_config_writel(d->device, d->pos + PCI_TPH_CTRL, new);
	check_ctrl(d, accepted ? new : old);
	check_resolve_ext(d, accepted);

	if (!has_table(d))
		return;

	VFIO_ASSERT_EQ(try_st(d, SRC_CPU_V | EXTENDED, 0, 1, &cpu),
		       accepted ? 1 : -EOPNOTSUPP);
	if (accepted)
		check_hint(d, 0, 1, XTAG_V(0), true);
	else
		check_hint(d, 0, 1, 0, false);
}

/* 16-bit tags need each link up to the Root Port. */
TEST_F_TIMEOUT(vfio_pci_tph_shapes, path, 120)
{
	static const struct {
		/* Attributes of the ports and the endpoint */
		const char *rp, *sw, *dp, *ep;
		bool ext;
		const char *path;
	} cases[] = {
		{ "", NULL, NULL, "", true, "path: Extended TPH\n" },
		{ "tph_completer=1", NULL, NULL, "", false,
		  "is no Extended TPH Completer" },
		{ "prefixes=0", NULL, NULL, "", false,
		  "has no End-End TLP Prefixes" },
		{ "prefixes=4", NULL, NULL, "prefixes=1", true,
		  "path: Extended TPH\n" },
		{ "", NULL, NULL, "prefixes=0", false,
		  "has no End-End TLP Prefixes" },
		{ "prefixes=1", NULL, NULL, "pasid=1", false,
		  "has no room for a TLP Prefix beside that of PASID" },
		{ "", NULL, NULL, "pasid=1", true, "path: Extended TPH\n" },
		{ "flit=1 prefixes=0", NULL, NULL, "prefixes=0 pasid=1", true,
		  "path: Extended TPH\n" },
		{ "", "", "", "", true, "path: Extended TPH\n" },
		{ "", "prefixes=0", "", "", false,
		  "has no End-End TLP Prefixes" },
		{ "", "", "prefixes=0", "", false,
		  "has no End-End TLP Prefixes" },
		{ "flit=1 prefixes=0", "prefixes=0", "", "", true,
		  "path: Extended TPH\n" },
		{ "", "", "flit=1 prefixes=0", "prefixes=0", true,
		  "path: Extended TPH\n" },
		{ "flit=1 prefixes=0", "prefixes=0", "prefixes=0", "", false,
		  "has no End-End TLP Prefixes" },
	};
	char name[64], ep[64];
	struct tph_device d;
	bool ext;
	int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		snprintf_assert(name, sizeof(name), "hb0/rp%d", i);
		pci_sim_add(self->sim, name, cases[i].rp);
		if (cases[i].sw) {
			strcat(name, "/sw0");
			pci_sim_add(self->sim, name, cases[i].sw);
			strcat(name, "/dp0");
			pci_sim_add(self->sim, name, cases[i].dp);
		}
		strcat(name, "/ep0");
		pci_sim_add(self->sim, name, "tph_ext=1 tph_st_size=3");
		pci_sim_add(self->sim, name, cases[i].ep);
	}
	pci_sim_set_live(self->sim, true);

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		TH_LOG("Path %d: %s", i, cases[i].path);
		if (cases[i].sw)
			snprintf_assert(ep, sizeof(ep), "hb0/rp%d/sw0/dp0/ep0", i);
		else
			snprintf_assert(ep, sizeof(ep), "hb0/rp%d/ep0", i);
		shape_open(&d, self->sim, ep, variant->level);
		check_path(&d, cases[i].path);

		vfio_pci_tph_opt_in(d.device);
		ext = cases[i].ext && has_ext(&d);
		ASSERT_EQ(shown_cap(d.cap, d.level) &
			  ~(ext ? 0 : PCI_TPH_CAP_EXT_TPH),
			  user_read(&d, PCI_TPH_CAP));
		check_ext(&d, ext);
		shape_close(&d);
	}
}

/* Tell a switch port to block TLP Prefixes, or not. */
static void set_blocking(const char *bdf, bool blocking)
{
	u16 ctrl = blocking ? PCI_EXP_DEVCTL2_EE_PREFIX_BLOCK : 0;

	sysfs_config_access(bdf, true, find_exp(bdf) + PCI_EXP_DEVCTL2,
			    sizeof(ctrl), &ctrl);
}

/* Blocking can come and go, so it is looked at when it matters. */
static void check_blocking(struct tph_device *d, const char *sw)
{
	struct pci_sim_record record;
	bool ext = has_ext(d);
	u32 cpu = 0;

	check_path(d, ": TPH, ");
	check_path(d, "blocks End-End TLP Prefixes");

	vfio_pci_tph_opt_in(d->device);
	if (has_table(d))
		enable_vectors(d);
	VFIO_ASSERT_EQ(user_read(d, PCI_TPH_CAP), shown_cap(d->cap, d->level));
	check_ext(d, false);

	set_blocking(sw, false);
	check_path(d, "path: Extended TPH\n");
	check_ext(d, ext);

	/* What has been enabled stays, and the switch does what it is told. */
	set_blocking(sw, true);
	if (ext) {
		struct pci_sim_desc desc = {
			.op = PCI_SIM_OP_WRITE,
			.len = 64,
			.dst = d->region.iova,
		};

		VFIO_ASSERT_EQ(user_read(d, PCI_TPH_CTRL) &
			       PCI_TPH_CTRL_REQ_EN_MASK,
			       PCI_TPH_CTRL_REQ_EN_MASK);
		pci_sim_trace_start(d->trace);
		VFIO_ASSERT_EQ(pci_sim_engine_run(d->device, &desc), -EIO);
		pci_sim_trace_stop(d->trace);
		record = *pci_sim_trace_first_write(d->trace, d->bdf);
		VFIO_ASSERT_EQ(record.fate, PCI_SIM_FATE_BLOCKED);
	}
	check_ext(d, false);

	if (!has_table(d) || !ext)
		return;

	/* What has been accepted in D3hot may not be possible in D0 any more. */
	set_blocking(sw, false);
	program(d, 0, 2, 0);
	set_power_state(d, PM_D3HOT);
	vfio_pci_tph_st(d->device, SRC_CPU_V | EXTENDED, 0, 1, &cpu);
	vfio_pci_config_writel(d->device, d->pos + PCI_TPH_CTRL, CTRL_IV_EXT);
	VFIO_ASSERT_EQ(user_read(d, PCI_TPH_CTRL), CTRL_IV_EXT);
	set_blocking(sw, true);
	set_power_state(d, PM_D0);
	check_ctrl(d, CTRL_IV);
	check_hint(d, 0, 1, 0, false);
	check_hint(d, 1, 1, TAG_V(0), false);

	/* What was on before goes on, also if the table has changed meanwhile. */
	set_blocking(sw, false);
	set_ctrl(d, CTRL_IV_EXT);
	set_power_state(d, PM_D3HOT);
	vfio_pci_tph_st(d->device, SRC_CPU_V | EXTENDED, 1, 1, &cpu);
	set_blocking(sw, true);
	set_power_state(d, PM_D0);
	check_ctrl(d, CTRL_IV_EXT);
	set_blocking(sw, false);
	check_hint(d, 1, 1, XTAG_V(0), true);
	set_blocking(sw, true);
}

TEST_F(vfio_pci_tph_shapes, blocked_prefixes)
{
	static const char * const eps[] = {
		"hb0/rp0/sw0/dp0/ep0", "hb0/rp0/sw0/dp1/ep0",
	};
	char bdf[PCI_SIM_BDF_SIZE];
	struct tph_device d;
	int i;

	pci_sim_add(self->sim, "hb0/rp0/sw0", "prefix_block=1");
	pci_sim_add(self->sim, eps[0], "tph_ext=1 tph_loc=1");
	pci_sim_add(self->sim, eps[1], "tph_ext=1 tph_loc=2");
	pci_sim_set_live(self->sim, true);
	pci_sim_get_bdf(self->sim, "hb0/rp0/sw0", bdf);

	for (i = 0; i < ARRAY_SIZE(eps); i++) {
		shape_open(&d, self->sim, eps[i], variant->level);
		check_blocking(&d, bdf);
		shape_close(&d);
	}
}

static int expected_resolve(struct tph_device *d, u32 flags, u32 src,
			    bool opted_in)
{
	if (flags & ~(KNOWN_FLAGS & ~(REQUIRE_ST | SRC_NONE | SRC_LITERAL)))
		return -EINVAL;
	if (__builtin_popcount(flags & VFIO_DEVICE_TPH_SRC_MASK) != 1)
		return -EINVAL;
	if (!opted_in)
		return -EPERM;
	if (flags & EXTENDED && !has_ext(d))
		return -EOPNOTSUPP;
	/* No dma-buf has the file descriptor 0. */
	if (flags & SRC_DMABUF)
		return kernel.dma_buf ? -EINVAL : -EOPNOTSUPP;
	if (!resolves(d))
		return -EOPNOTSUPP;
	return src >= nr_possible_cpus() ? -EINVAL : 0;
}

static void check_resolve(struct tph_device *d, u32 flags, u32 src,
			  bool opted_in)
{
	static const u8 untouched = PCI_TPH_UNTOUCHED;
	struct vfio_device_feature_tph_resolve resolve;
	u16 tag = flags & SRC_CPU_P ? TAG_P(src) : TAG_V(src);
	int ret;

	if (flags & EXTENDED)
		tag = flags & SRC_CPU_P ? XTAG_P(src) : XTAG_V(src);

	trace_start(d);
	ret = __vfio_pci_tph_resolve(d->device, flags, src, &resolve);
	check_untouched(d);

	VFIO_ASSERT_EQ(ret, has_resolve(d) ?
			    expected_resolve(d, flags, src, opted_in) :
			    denied(kernel.resolve),
		       "Flags %#x, source %u\n", flags, src);
	VFIO_ASSERT_EQ(resolve.flags, flags);
	VFIO_ASSERT_EQ(resolve.src, src);
	VFIO_ASSERT_EQ(resolve.valid,
		       ret ? untouched : VFIO_DEVICE_TPH_VALID_ST);
	VFIO_ASSERT_EQ(resolve.ph, ret ? untouched : 0);
	VFIO_ASSERT_EQ(resolve.st, ret ? untouched << 8 | untouched : tag);
}

/* Who can make use of a tag is told the tags of CPUs. */
TEST_F_TIMEOUT(vfio_pci_tph_shapes, resolve, 120)
{
	static const u32 modes[] = { 1, 7, 5, 7 };
	struct tph_device d;
	char attrs[64];
	u32 flags;
	int i, bit;

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		snprintf_assert(attrs, sizeof(attrs), "tph_ext=%d tph_modes=%u",
				i / 2, modes[i]);
		add_endpoint(self->sim, i, attrs);
	}
	pci_sim_set_live(self->sim, true);

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		shape_open(&d, self->sim, ep_name(i), variant->level);
		check_resolve(&d, SRC_CPU_V, 0, false);
		check_resolve(&d, SRC_NONE, 0, false);

		vfio_pci_tph_opt_in(d.device);
		/* Malformed flags are so whatever the device is. */
		for (flags = 0; has_ext(&d) && flags <= KNOWN_FLAGS; flags++)
			check_resolve(&d, flags, 0, true);
		for (bit = 7; bit < 32; bit++)
			check_resolve(&d, BIT(bit) | SRC_CPU_V, 0, true);
		check_resolve(&d, SRC_CPU_P, other_cpu(), true);
		check_resolve(&d, SRC_CPU_V | EXTENDED, other_cpu(), true);
		check_resolve(&d, SRC_CPU_V, nr_possible_cpus(), true);
		check_resolve(&d, SRC_CPU_V, ~0u, true);
		shape_close(&d);
	}
}

/* An endpoint in the root complex has no port, and no host bridge to ask. */
TEST_F(vfio_pci_tph_shapes, root_complex_endpoint)
{
	struct tph_device d;
	u32 cpu = 0;

	pci_sim_add(self->sim, "hb0/rciep0", "tph_ext=1 tph_loc=1 tph_st_size=3");
	pci_sim_set_live(self->sim, true);
	shape_open(&d, self->sim, "hb0/rciep0", variant->level);

	ASSERT_EQ(0, vfio_pci_tph_flags(d.device) & VFIO_DEVICE_TPH_CAP_CPU);
	vfio_pci_tph_opt_in(d.device);
	ASSERT_EQ(shown_cap(d.cap, variant->level), user_read(&d, PCI_TPH_CAP));

	ASSERT_EQ(denied(kernel.st), try_st(&d, SRC_CPU_V, 0, 1, &cpu));
	if (has_table(&d))
		vfio_pci_tph_st(d.device, SRC_NONE, 0, 4, NULL);

	set_ctrl(&d, CTRL_NS);
	check_hint(&d, 0, 2, 0, false);
	/* Nor is there a link that could lack TLP Prefixes. */
	if (has_ext(&d)) {
		set_ctrl(&d, CTRL_IV_EXT);
		check_hint(&d, 0, 2, 0, true);
	}
	shape_close(&d);
}

/* Only literal tags can be told to a device without a Root Port. */
static void check_collected_error(struct tph_device *d, bool on)
{
	u32 ctrl = on ? ctrl_on(d) : CTRL_OFF;
	u32 literals[MAX_ENTRIES];
	u16 tags[MAX_ENTRIES] = {};

	vfio_pci_cmd_set(d->device, COMMAND_ON);
	vfio_pci_tph_opt_in(d->device);
	if (d->level >= 3) {
		enable_vectors(d);
		fill_cpus(literals, nr_entries(d), 0x77);
		fill_tags(tags, 0, nr_entries(d), 0x77);
		vfio_pci_tph_st(d->device, SRC_LITERAL, 0, nr_entries(d),
				literals);
	}
	set_ctrl(d, ctrl);
	check_table(d, tags);

	pci_sim_error_reset(d->sim, d->ep, "fatal");
	check_ctrl(d, CTRL_OFF);
	check_table_zero(d);

	vfio_pci_cmd_set(d->device, COMMAND_ON);
	set_ctrl(d, ctrl_on(d));
	check_table_zero(d);
	check_hint(d, 0, 1, 0, false);
}

/*
 * An event collector tells of the error, and since there is no port to reset the
 * link of, the kernel resets the function, and restores nothing.
 */
TEST_F_TIMEOUT(vfio_pci_tph_shapes, root_complex_error, 120)
{
	static const char * const eps[] = { "hb0/rciep0", "hb0/rciep1" };
	struct tph_device d;
	int i;

	pci_sim_add(self->sim, eps[0], "tph_loc=1");
	pci_sim_add(self->sim, eps[1], "tph_loc=2");
	pci_sim_add(self->sim, "hb0/rcec2", "associated=3");
	pci_sim_set_live(self->sim, true);

	/* An error is the last one that is reported, until the device is closed. */
	for (i = 0; i < ARRAY_SIZE(eps) * 2; i++) {
		shape_open(&d, self->sim, eps[i / 2], variant->level);
		check_collected_error(&d, i % 2);
		shape_close(&d);
	}
}

/* A VF has a TPH capability of its own or none, whatever the PF has. */
TEST_F_TIMEOUT(vfio_pci_tph_shapes, virtual_functions, 120)
{
	static const char token[] = "c9a0cf0e-6a0e-4c1e-a4cb-2a0f6b8d2b53";
	struct tph_device pf, vf0, vf1, vf2;

	pci_sim_add(self->sim, SIM_EP "/vf0", "tph_loc=1 tph_st_size=3");
	pci_sim_add(self->sim, SIM_EP "/vf1", "tph=0");
	pci_sim_add(self->sim, SIM_EP "/vf2", "tph_loc=2 tph_st_size=3");
	pci_sim_set_live(self->sim, true);

	ASSERT_EQ(0, __sysfs_write(VFIO_PCI_PARAMETERS, "enable_sriov", "1"));

	shape_open(&pf, self->sim, SIM_EP, variant->level);
	vfio_device_set_vf_token(pf.device->fd, token);
	sysfs_sriov_numvfs_set(pf.bdf, 3);
	shape_open_with(&vf0, self->sim, SIM_EP "/vf0", variant->level,
			"vfio-pci", token);
	shape_open_with(&vf1, self->sim, SIM_EP "/vf1", variant->level,
			"vfio-pci", token);
	shape_open_with(&vf2, self->sim, SIM_EP "/vf2", variant->level,
			"vfio-pci", token);
	check_refused(&vf1);

	tph_start(&pf);
	tph_start(&vf0);
	tph_start(&vf2);
	check_started(&pf);
	check_started(&vf0);
	check_started(&vf2);
	check_hint(&vf2, 0, 1, has_table(&vf2) ? TAG_V(0) : 0, false);
	set_ctrl(&vf0, CTRL_NS);
	check_hint(&vf0, 0, 2, 0, false);

	/* A reset of the bus would reach VFs, too, so it is refused. */
	ASSERT_EQ(-EINVAL, try_hot_reset(&pf));
	check_started(&pf);
	check_started(&vf2);

	vfio_pci_device_reset(vf0.device);
	check_reset(&vf0);
	check_started(&pf);

	/* The PF takes its VFs with it. */
	ASSERT_NE(CTRL_OFF, hw_ctrl(&vf0));
	vfio_pci_device_reset(pf.device);
	check_reset(&pf);
	ASSERT_EQ(CTRL_OFF, hw_ctrl(&vf0));
	check_ctrl(&vf0, CTRL_OFF);
	check_reset(&vf0);
	ASSERT_EQ(CTRL_OFF, hw_ctrl(&vf2));
	check_ctrl(&vf2, CTRL_OFF);
	vfio_pci_cmd_set(vf2.device, PCI_COMMAND_MASTER);
	check_reset(&vf2);

	shape_close(&vf2);
	shape_close(&vf1);
	shape_close(&vf0);
	shape_close(&pf);
}

/* A bit of config space of @bdf after a write, which is of other bits as well */
static bool write_bit(const struct pci_sim_record *record, const char *bdf,
		      u16 offset, u8 bit, bool old)
{
	if (record->type != PCI_SIM_CFG_WRITE ||
	    record->fate != PCI_SIM_FATE_OK ||
	    !pci_sim_record_config(record, bdf, offset, 1))
		return old;

	return record->value >> (offset - record->addr) * 8 & bit;
}

/*
 * Since trace_start(), when no interrupts were enabled, MSI has been and MSI-X
 * was not at the same time, which is undefined (PCIe r6.2, sec 6.1.4).
 */
static void check_msi_alone(struct tph_device *d, u16 msi, u16 msix)
{
	bool msi_on = false, msix_on = false, seen = false;
	const struct pci_sim_record *record;
	size_t i;

	pci_sim_trace_stop(d->trace);
	for (i = 0; i < d->trace->nr; i++) {
		record = &d->trace->records[i];
		msi_on = write_bit(record, d->bdf, msi + PCI_MSI_FLAGS,
				   PCI_MSI_FLAGS_ENABLE, msi_on);
		/* In the upper half of the register */
		msix_on = write_bit(record, d->bdf, msix + PCI_MSIX_FLAGS + 1,
				    PCI_MSIX_FLAGS_ENABLE >> 8, msix_on);
		VFIO_ASSERT_FALSE(msi_on && msix_on, "Record %zu\n", i);
		seen |= msi_on;
	}
	VFIO_ASSERT_TRUE(seen);
}

/* The tags are in the MSI-X table, and the interrupts are none of it. */
TEST_F(vfio_pci_tph_shapes, msi)
{
	struct tph_device d;
	u16 msi, msix;

	add_endpoint(self->sim, 0, "tph_loc=2 msi=1");
	pci_sim_set_live(self->sim, true);
	shape_open(&d, self->sim, SIM_EP, variant->level);
	msi = vfio_pci_find_cap(d.device, PCI_CAP_ID_MSI);
	msix = vfio_pci_find_cap(d.device, PCI_CAP_ID_MSIX);
	ASSERT_NE(0, msi);
	ASSERT_NE(0, msix);

	trace_start(&d);
	vfio_pci_tph_opt_in(d.device);
	vfio_pci_msi_enable(d.device, 0, 1);
	set_ctrl(&d, ctrl_on(&d));
	if (has_table(&d))
		program(&d, 0, nr_entries(&d), 0);
	check_ctrl(&d, ctrl_on(&d));
	check_table_zero(&d);
	check_msi_alone(&d, msi, msix);

	set_power_state(&d, PM_D3HOT);
	vfio_pci_config_writel(d.device, d.pos + PCI_TPH_CTRL, CTRL_OFF);
	set_power_state(&d, PM_D0);
	check_ctrl(&d, CTRL_OFF);
	check_msi_alone(&d, msi, msix);

	set_ctrl(&d, ctrl_on(&d));
	tph_close(&d);
	check_msi_alone(&d, msi, msix);
	tph_open(&d);

	/* What was kept went with the user who has used MSI. */
	check_ctrl(&d, CTRL_OFF);
	tph_start(&d);
	check_started(&d);
	shape_close(&d);
}

/* The level is that of vfio_pci_core, so it holds for other drivers, too. */
TEST_F(vfio_pci_tph_shapes, other_driver)
{
	struct tph_device d;
	int i;

	if (system("modprobe vfio_pci_test 2>/dev/null"))
		SKIP(return, "vfio_pci_test cannot be loaded");

	add_endpoint(self->sim, 0, "tph_ext=1 tph_loc=1");
	add_endpoint(self->sim, 1, "tph_ext=1 tph_loc=2");
	pci_sim_set_live(self->sim, true);

	for (i = 0; i < 2; i++) {
		shape_open_with(&d, self->sim, ep_name(i), variant->level,
				"vfio_pci_test", NULL);
		ASSERT_EQ(d.cap, user_read(&d, PCI_TPH_CAP));
		ASSERT_EQ(has_table(&d) ? -EPERM : denied(kernel.st),
			  try_st(&d, SRC_NONE, 0, 1, NULL));

		tph_start(&d);
		ASSERT_EQ(shown_cap(d.cap, variant->level),
			  user_read(&d, PCI_TPH_CAP));
		check_started(&d);
		check_hint(&d, 0, 1, has_table(&d) ? TAG_V(0) : 0, false);
		vfio_pci_device_reset(d.device);
		check_reset(&d);
		shape_close(&d);
	}
}

/* --- The parameter itself --- */

/* Levels that do not exist are refused, and the level stays what it is. */
TEST(level_parameter)
{
	static const char * const bad[] = { "4", "-1", "x" };
	const char *reason;
	struct stat st;
	int i;

	undo();
	reason = vfio_pci_tph_set_level(0);
	if (reason)
		SKIP(return, "%s", reason);

	if (access(VFIO_PCI_TPH_LEVEL, F_OK))
		SKIP(return, "vfio_pci_core has no parameter \"tph\"");

	ASSERT_EQ(0, stat(VFIO_PCI_TPH_LEVEL, &st));
	ASSERT_EQ(0444, st.st_mode & 07777);

	ASSERT_EQ(0, vfio_pci_unload());
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_NE(0, vfio_pci_load(bad[i]))
			TH_LOG("tph=%s", bad[i]);
	}

	vfio_pci_unload();
	ASSERT_EQ(0, vfio_pci_load("1"));
	ASSERT_EQ(1, vfio_pci_tph_level());
}

static pid_t harness;

/* The harness exits. So does a test that fails, with the device open. */
static void undo_last(void)
{
	if (getpid() == harness)
		undo();
}

int main(int argc, char *argv[])
{
	FILE *file = fopen(VFIO_PCI_PARAMETERS "/enable_sriov", "re");
	char path[PATH_MAX];

	if (file) {
		VFIO_ASSERT_NOT_NULL(fgets(enable_sriov, sizeof(enable_sriov),
					   file));
		fclose(file);
	}

	harness = getpid();
	atexit(undo_last);
	device_bdf = vfio_selftests_find_bdf(&argc, argv);
	if (device_bdf) {
		snprintf_assert(path, sizeof(path), "/sys/bus/pci/devices/%s",
				device_bdf);
		VFIO_ASSERT_EQ(access(path, F_OK), 0, "There is no device %s\n",
			       device_bdf);
	}

	return test_harness_run(argc, argv);
}
