// SPDX-License-Identifier: GPL-2.0-only
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/ioctl.h>
#include <sys/stat.h>

#include <linux/limits.h>
#include <linux/pci_regs.h>

#include <libvfio.h>

#define PCI_SIM_CONFIGFS	"/sys/kernel/config/pci-sim"
#define PCI_SIM_DEBUGFS		"/sys/kernel/debug/pci-sim"
#define PCI_SIM_DEV		"/dev/pci-sim"
#define PCI_SIM_DMABUF_DEV	"/dev/pci-sim-dmabuf"

static size_t read_file(const char *path, void *buf, size_t size)
{
	size_t len = 0;
	ssize_t ret;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	VFIO_ASSERT_GE(fd, 0, "open(%s) failed\n", path);

	do {
		ret = read(fd, buf + len, size - len);
		VFIO_ASSERT_GE(ret, 0, "read(%s) failed\n", path);
		len += ret;
	} while (ret && len < size);

	VFIO_ASSERT_EQ(close(fd), 0);

	return len;
}

static void read_line(const char *path, char *buf, size_t size)
{
	buf[read_file(path, buf, size - 1)] = 0;
	buf[strcspn(buf, "\n")] = 0;
}

bool pci_sim_available(void)
{
#ifdef PCI_SIM_NONE
	return false;
#else
	return !access(PCI_SIM_CONFIGFS, F_OK);
#endif
}

static int remove_component(const char *path, const struct stat *st, int type,
			    struct FTW *ftw)
{
	/* Attributes go with their directory. */
	return type == FTW_DP ? rmdir(path) : 0;
}

void pci_sim_remove(const char *name)
{
	struct pci_sim sim;
	int ret;

	snprintf_assert(sim.path, sizeof(sim.path), "%s/%s", PCI_SIM_CONFIGFS,
			name);

	if (access(sim.path, F_OK))
		return;

	pci_sim_set_live(&sim, false);
	ret = nftw(sim.path, remove_component, 16, FTW_DEPTH | FTW_PHYS);
	VFIO_ASSERT_EQ(ret, 0, "Failed to remove %s\n", sim.path);
}

struct pci_sim *pci_sim_init(const char *name)
{
	struct pci_sim *sim;

	pci_sim_remove(name);

	sim = calloc_assert(1, sizeof(*sim));
	snprintf_assert(sim->path, sizeof(sim->path), "%s/%s", PCI_SIM_CONFIGFS,
			name);
	VFIO_ASSERT_EQ(mkdir(sim->path, 0755), 0, "mkdir(%s) failed\n",
		       sim->path);

	return sim;
}

void pci_sim_cleanup(struct pci_sim *sim)
{
	pci_sim_remove(basename(sim->path));
	free(sim);
}

int __pci_sim_set(struct pci_sim *sim, const char *component, const char *attr,
		  const char *value)
{
	char dir[PATH_MAX];

	snprintf_assert(dir, sizeof(dir), "%s/%s", sim->path, component);

	return __sysfs_write(dir, attr, value);
}

void pci_sim_set(struct pci_sim *sim, const char *component, const char *attr,
		 const char *value)
{
	int ret = __pci_sim_set(sim, component, attr, value);

	VFIO_ASSERT_EQ(ret, 0, "%s/%s/%s = %s: %s\n", sim->path, component, attr,
		       value, strerror(-ret));
}

static void attr_path(struct pci_sim *sim, const char *component,
		      const char *attr, char *path)
{
	snprintf_assert(path, PATH_MAX, "%s/%s/%s", sim->path, component, attr);
}

void pci_sim_get(struct pci_sim *sim, const char *component, const char *attr,
		 char *buf, size_t size)
{
	char path[PATH_MAX];

	attr_path(sim, component, attr, path);
	read_line(path, buf, size);
}

static void make_component(const char *path)
{
	if (mkdir(path, 0755))
		VFIO_ASSERT_EQ(errno, EEXIST, "mkdir(%s) failed\n", path);
}

static void set_attrs(struct pci_sim *sim, const char *component,
		      const char *attrs)
{
	char *copy, *pos, *attr, *value;

	copy = strdup(attrs);
	VFIO_ASSERT_NOT_NULL(copy);

	for (pos = copy; (attr = strtok_r(pos, " ", &pos));) {
		value = strchr(attr, '=');
		VFIO_ASSERT_NOT_NULL(value, "%s is no attribute\n", attr);
		*value++ = 0;
		pci_sim_set(sim, component, attr, value);
	}

	free(copy);
}

void pci_sim_add(struct pci_sim *sim, const char *component, const char *attrs)
{
	char path[PATH_MAX];
	char *slash;

	snprintf_assert(path, sizeof(path), "%s/%s", sim->path, component);

	slash = path + strlen(sim->path);
	while ((slash = strchr(slash + 1, '/'))) {
		*slash = 0;
		make_component(path);
		*slash = '/';
	}

	make_component(path);

	if (attrs)
		set_attrs(sim, component, attrs);
}

void pci_sim_set_live(struct pci_sim *sim, bool live)
{
	pci_sim_set(sim, "", "live", live ? "1" : "0");
}

void pci_sim_get_bdf(struct pci_sim *sim, const char *component, char *bdf)
{
	pci_sim_get(sim, component, "bdf", bdf, PCI_SIM_BDF_SIZE);
}

void pci_sim_bind_vfio(struct pci_sim *sim, const char *component, char *bdf)
{
	pci_sim_get_bdf(sim, component, bdf);
	sysfs_driver_bind(bdf, "vfio-pci");
}

static u32 get_u32(struct pci_sim *sim, const char *component, const char *attr)
{
	char buf[32], *end;
	u32 value;

	pci_sim_get(sim, component, attr, buf, sizeof(buf));
	value = strtoul(buf, &end, 0);
	VFIO_ASSERT_TRUE(end != buf && !*end, "%s of %s is \"%s\"\n", attr,
			 component, buf);

	return value;
}

u32 pci_sim_tph_cap(struct pci_sim *sim, const char *component)
{
	return get_u32(sim, component, "tph_cap");
}

u32 pci_sim_tph_ctrl(struct pci_sim *sim, const char *component)
{
	return get_u32(sim, component, "tph_ctrl");
}

int pci_sim_st_table(struct pci_sim *sim, const char *component, u16 *entries,
		     int max)
{
	char path[PATH_MAX];
	u8 table[0x1000];
	int nr, i;

	attr_path(sim, component, "st_table", path);
	nr = read_file(path, table, sizeof(table)) / sizeof(*entries);

	/* Little-endian, as in the device */
	for (i = 0; i < nr && i < max; i++)
		entries[i] = table[2 * i] | table[2 * i + 1] << 8;

	return nr;
}

static void set_fail(struct pci_sim *sim, const char *component,
		     const char *attr, u16 offset, u32 count, u32 skip)
{
	char buf[32];

	snprintf_assert(buf, sizeof(buf), "%#x %u %u", offset, count, skip);
	pci_sim_set(sim, component, attr, buf);
}

void pci_sim_fail_read(struct pci_sim *sim, const char *component, u16 offset,
		       u32 count, u32 skip)
{
	set_fail(sim, component, "fail_read", offset, count, skip);
}

void pci_sim_fail_write(struct pci_sim *sim, const char *component, u16 offset,
			u32 count, u32 skip)
{
	set_fail(sim, component, "fail_write", offset, count, skip);
}

void pci_sim_fail_none(struct pci_sim *sim, const char *component)
{
	pci_sim_fail_read(sim, component, 0, 0, 0);
	pci_sim_fail_write(sim, component, 0, 0, 0);
}

void pci_sim_reset(struct pci_sim *sim, const char *component)
{
	pci_sim_set(sim, component, "reset", "1");
}

void pci_sim_error(struct pci_sim *sim, const char *component,
		   const char *severity)
{
	pci_sim_set(sim, component, "error", severity);
}

/*
 * The last thing that the kernel does to recover is to clear the function's
 * status of non-fatal errors, for which it looks at their severity. That of a
 * port which is restored is written.
 */
static bool has_recovered(struct pci_sim_trace *trace, const char *bdf, u16 aer)
{
	const struct pci_sim_record *record;
	bool reset = false;
	size_t i;

	pci_sim_trace_stop(trace);
	for (i = 0; i < trace->nr; i++) {
		record = &trace->records[i];
		if (record->type == PCI_SIM_RESET &&
		    pci_sim_record_match(record, bdf))
			reset = true;
		if (reset && record->type == PCI_SIM_CFG_READ &&
		    pci_sim_record_config(record, bdf,
					  aer + PCI_ERR_UNCOR_SEVER, 4))
			return true;
	}

	return false;
}

/* The hardware's capability, which a bridge has as well */
static u16 find_aer(const char *bdf)
{
	u16 pos = PCI_CFG_SPACE_SIZE;
	u32 header;

	do {
		sysfs_config_access(bdf, false, pos, sizeof(header), &header);
		if (PCI_EXT_CAP_ID(header) == PCI_EXT_CAP_ID_ERR)
			return pos;

		pos = PCI_EXT_CAP_NEXT(header);
	} while (pos);

	VFIO_FAIL("%s has no AER capability\n", bdf);
}

/* An error that the kernel answers with a reset, and that it gets over */
void pci_sim_error_reset(struct pci_sim *sim, const char *component,
			 const char *severity)
{
	struct pci_sim_trace *trace;
	char bdf[PCI_SIM_BDF_SIZE];
	u16 aer;
	int i;

	pci_sim_get_bdf(sim, component, bdf);
	aer = find_aer(bdf);
	trace = pci_sim_trace_init();
	pci_sim_error(sim, component, severity);

	for (i = 0; !has_recovered(trace, bdf, aer); i++) {
		VFIO_ASSERT_LT(i, 1000, "No recovery of %s\n", component);
		usleep(10000);
	}

	pci_sim_trace_cleanup(trace);
}

u64 pci_sim_violations(void)
{
	char buf[32];

	read_line(PCI_SIM_DEBUGFS "/violations", buf, sizeof(buf));

	return strtoull(buf, NULL, 0);
}

struct pci_sim_trace *pci_sim_trace_init(void)
{
	struct pci_sim_trace *trace;

	trace = calloc_assert(1, sizeof(*trace));
	trace->fd = -1;
	pci_sim_trace_start(trace);

	return trace;
}

void pci_sim_trace_cleanup(struct pci_sim_trace *trace)
{
	VFIO_ASSERT_EQ(close(trace->fd), 0);
	free(trace->records);
	free(trace);
}

void pci_sim_trace_start(struct pci_sim_trace *trace)
{
	if (trace->fd >= 0)
		VFIO_ASSERT_EQ(close(trace->fd), 0);

	/* A reader starts with what happens next. */
	trace->fd = open(PCI_SIM_DEV, O_RDONLY | O_CLOEXEC);
	VFIO_ASSERT_GE(trace->fd, 0, "open(%s) failed\n", PCI_SIM_DEV);
	trace->nr = 0;
}

void pci_sim_trace_stop(struct pci_sim_trace *trace)
{
	ssize_t ret;
	size_t i;

	do {
		if (trace->nr == trace->size) {
			trace->size += 256;
			trace->records = realloc(trace->records, trace->size *
						 sizeof(*trace->records));
			VFIO_ASSERT_NOT_NULL(trace->records);
		}

		ret = read(trace->fd, &trace->records[trace->nr],
			   (trace->size - trace->nr) * sizeof(*trace->records));
		VFIO_ASSERT_GE(ret, 0);
		trace->nr += ret / sizeof(*trace->records);
	} while (ret);

	for (i = 0; i < trace->nr; i++)
		VFIO_ASSERT_EQ(trace->records[i].lost, 0);
}

static u16 parse_bdf(const char *bdf, u16 *domain)
{
	unsigned int dom, bus, device, function;
	int ret;

	ret = sscanf(bdf, "%x:%x:%x.%x", &dom, &bus, &device, &function);
	VFIO_ASSERT_EQ(ret, 4, "Invalid BDF: %s\n", bdf);
	*domain = dom;

	return bus << 8 | device << 3 | function;
}

bool pci_sim_record_match(const struct pci_sim_record *record, const char *bdf)
{
	u16 domain, number = parse_bdf(bdf, &domain);

	return record->domain == domain && record->bdf == number;
}

bool pci_sim_record_target(const struct pci_sim_record *record, const char *bdf)
{
	u16 domain, number = parse_bdf(bdf, &domain);

	return record->flags & PCI_SIM_RECORD_PEER && record->target == number;
}

bool pci_sim_record_config(const struct pci_sim_record *record, const char *bdf,
			   u16 offset, u16 size)
{
	if (record->type != PCI_SIM_CFG_READ &&
	    record->type != PCI_SIM_CFG_WRITE)
		return false;

	return record->addr < offset + size &&
	       record->addr + record->len > offset &&
	       pci_sim_record_match(record, bdf);
}

u32 pci_sim_trace_count_config(struct pci_sim_trace *trace, const char *bdf,
			       u16 offset, u16 size)
{
	u32 count = 0;
	size_t i;

	for (i = 0; i < trace->nr; i++)
		count += pci_sim_record_config(&trace->records[i], bdf, offset,
					       size);

	return count;
}

const struct pci_sim_record *
pci_sim_trace_first_write(struct pci_sim_trace *trace, const char *bdf)
{
	const struct pci_sim_record *record;
	size_t i;

	for (i = 0; i < trace->nr; i++) {
		record = &trace->records[i];
		if (record->type == PCI_SIM_TLP_MWR &&
		    pci_sim_record_match(record, bdf))
			return record;
	}

	return NULL;
}

void pci_sim_record_print(const struct pci_sim_record *record)
{
	static const char * const names[] = {
		[PCI_SIM_CFG_READ]	= "CfgRd",
		[PCI_SIM_CFG_WRITE]	= "CfgWr",
		[PCI_SIM_TLP_MRD]	= "MRd",
		[PCI_SIM_TLP_MWR]	= "MWr",
	};
	bool th = record->flags & PCI_SIM_RECORD_TH;

	switch (record->type) {
	case PCI_SIM_CFG_READ:
	case PCI_SIM_CFG_WRITE:
		printf("%s %#llx %u = 0x%0*x\n", names[record->type],
		       record->addr, record->len, 2 * record->len,
		       record->value);
		break;
	case PCI_SIM_TLP_MRD:
	case PCI_SIM_TLP_MWR:
		printf("%s %#llx len %u TH=%d", names[record->type],
		       record->addr, record->len, th);
		if (th)
			printf(" PH=%u ST=%#04x", record->ph, record->st);
		printf("\n");
		break;
	default:
		printf("record of type %u\n", record->type);
	}
}

static u16 engine_pos(struct vfio_pci_device *device)
{
	u16 pos = vfio_pci_find_ext_cap(device, PCI_EXT_CAP_ID_VNDR);
	u32 header;

	VFIO_ASSERT_NE(pos, 0);
	header = vfio_pci_config_readl(device, pos + PCI_VNDR_HEADER);
	VFIO_ASSERT_EQ(PCI_VNDR_HEADER_ID(header), PCI_SIM_VSEC_ID);
	VFIO_ASSERT_EQ(PCI_VNDR_HEADER_LEN(header), PCI_SIM_VSEC_LEN);

	return pos;
}

void pci_sim_engine_start(struct vfio_pci_device *device,
			  const struct pci_sim_desc *desc)
{
	void *bar = device->bars[PCI_SIM_DESC_BAR].vaddr;

	VFIO_ASSERT_NOT_NULL(bar);
	memcpy(bar, desc, sizeof(*desc));
	vfio_pci_config_writel(device, engine_pos(device) + PCI_SIM_ENGINE_CTRL,
			       PCI_SIM_ENGINE_GO);
}

int pci_sim_engine_wait(struct vfio_pci_device *device)
{
	u16 pos = engine_pos(device) + PCI_SIM_ENGINE_STATUS;
	u32 status;
	int i;

	/* 10 seconds at least */
	for (i = 0; i < 100000; i++) {
		status = vfio_pci_config_readl(device, pos);
		VFIO_ASSERT_NE(status, ~0u, "The device does not answer\n");
		if (!(status & PCI_SIM_ENGINE_BUSY))
			return status & PCI_SIM_ENGINE_ERROR ? -EIO : 0;

		usleep(100);
	}

	VFIO_FAIL("The engine does not come to an end\n");
}

int pci_sim_engine_run(struct vfio_pci_device *device,
		       const struct pci_sim_desc *desc)
{
	pci_sim_engine_start(device, desc);

	return pci_sim_engine_wait(device);
}

bool pci_sim_dmabuf_available(void)
{
	return pci_sim_available() && !access(PCI_SIM_DMABUF_DEV, F_OK);
}

int pci_sim_dmabuf_open(void)
{
	int fd = open(PCI_SIM_DMABUF_DEV, O_RDWR | O_CLOEXEC);

	VFIO_ASSERT_GE(fd, 0, "open(%s) failed\n", PCI_SIM_DMABUF_DEV);

	return fd;
}

int __pci_sim_dmabuf_attach(int importer, int fd, const char *bdf)
{
	struct pci_sim_dmabuf_attach args = { .fd = fd };

	args.bdf = parse_bdf(bdf, &args.domain);

	return ioctl(importer, PCI_SIM_DMABUF_ATTACH, &args) ? -errno : 0;
}

void pci_sim_dmabuf_attach(int importer, int fd, const char *bdf)
{
	VFIO_ASSERT_EQ(__pci_sim_dmabuf_attach(importer, fd, bdf), 0);
}

int __pci_sim_dmabuf_get_tph(int importer, bool extended, u16 *st, u8 *ph)
{
	struct pci_sim_dmabuf_tph tph = {
		.extended = extended,
		.st = *st,
		.ph = *ph,
	};
	int ret = ioctl(importer, PCI_SIM_DMABUF_GET_TPH, &tph) ? -errno : 0;

	*st = tph.st;
	*ph = tph.ph;

	return ret;
}

int __pci_sim_dmabuf_write(int importer, u64 pattern, u32 offset, u32 len)
{
	struct pci_sim_dmabuf_write args = {
		.pattern = pattern,
		.offset = offset,
		.len = len,
	};

	return ioctl(importer, PCI_SIM_DMABUF_WRITE, &args) ? -errno : 0;
}

void pci_sim_dmabuf_write(int importer, u64 pattern, u32 offset, u32 len)
{
	VFIO_ASSERT_EQ(__pci_sim_dmabuf_write(importer, pattern, offset, len),
		       0);
}

int pci_sim_dmabuf_export(u32 size, u32 cpu)
{
	struct pci_sim_dmabuf_export args = { .size = size, .cpu = cpu };
	int control = pci_sim_dmabuf_open();
	int fd = ioctl(control, PCI_SIM_DMABUF_EXPORT, &args);

	VFIO_ASSERT_GE(fd, 0);
	VFIO_ASSERT_EQ(close(control), 0);

	return fd;
}
