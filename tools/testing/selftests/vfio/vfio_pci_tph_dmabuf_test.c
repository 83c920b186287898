// SPDX-License-Identifier: GPL-2.0-only
/*
 * TPH between peers: the hints that the owner of a device publishes for a dma-buf
 * of its BAR, and what importers make of them.
 *
 * The devices are simulated (pci-sim), in two topologies: below one switch and in
 * one IOMMU group, where requests reach the peer as they are sent, and in groups
 * of their own, where they go through the root complex.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <sys/ioctl.h>
#include <sys/mman.h>

#include <linux/bitfield.h>
#include <linux/iommufd.h>
#include <linux/limits.h>
#include <linux/pci_regs.h>
#include <linux/sizes.h>
#include <linux/udmabuf.h>
#include <linux/vfio.h>

#include <libvfio.h>

#include "kselftest_harness.h"

#define SIM_NAME	"vfio_pci_tph_dmabuf_test"

#define MAX_ENTRIES	16

#define SRC_DMABUF	VFIO_DEVICE_TPH_SRC_DMABUF
#define SRC_CPU_V	VFIO_DEVICE_TPH_SRC_CPU_VOLATILE
#define REQUIRE_ST	VFIO_DEVICE_TPH_REQUIRE_ST
#define EXTENDED	VFIO_DEVICE_TPH_EXTENDED
#define VALID_PH	VFIO_DEVICE_TPH_VALID_PH
#define VALID_ST	VFIO_DEVICE_TPH_VALID_ST

#define ST		VFIO_DMA_BUF_TPH_ST
#define ST_EXT		VFIO_DMA_BUF_TPH_ST_EXT

/* The range of BAR 0 that is exported; the engine's descriptor is before it */
#define BUF_BAR		0
#define BUF_OFFSET	SZ_4K
#define BUF_SIZE	SZ_8K

/* What is usually published */
#define TAG		0xf0
#define XTAG		0x1234
#define PH		2

/* And what was before */
#define OLD_TAG		0x0d
#define OLD_XTAG	0x0d0d

#define PATTERN		0x0123456789abcdef

static_assert(sizeof(struct vfio_device_feature_dma_buf_tph) == 12, "size");
static_assert(offsetof(struct vfio_device_feature_dma_buf_tph,
		       steering_tag_ext) == 8, "offset");
static_assert(offsetof(struct vfio_device_feature_dma_buf_tph, ph) == 11,
	      "offset");

/* A simulated endpoint that is open, unless @device is NULL */
struct peer {
	const char *ep;
	char bdf[PCI_SIM_BDF_SIZE];
	struct vfio_pci_device *device;
	/* Whether it has Device Specific mode */
	bool ds;
};

/* Return NULL, or the reason why there is nothing to test. */
static const char *setup_level(int level)
{
	if (!pci_sim_available())
		return "pci_sim is not available";

	/* A hierarchy that a failed test left keeps vfio-pci in use. */
	pci_sim_remove(SIM_NAME);

	return vfio_pci_tph_set_level(level);
}

static const char *setup_tph(int level)
{
	return vfio_pci_tph_turned_off() ? "TPH is turned off by pci=notph" :
					   setup_level(level);
}

/* Each dma-buf of vfio-pci, and each device that it has, holds a reference. */
static int vfio_pci_core_refs(void)
{
	FILE *file = fopen("/sys/module/vfio_pci_core/refcnt", "re");
	int refs, nr;

	/* There is no such file if it is built in. */
	if (!file) {
		ksft_print_msg("vfio_pci_core is built in: leaks go unseen\n");
		return 0;
	}

	nr = fscanf(file, "%d", &refs);
	VFIO_ASSERT_EQ(nr, 1);
	fclose(file);

	return refs;
}

static void peer_open(struct pci_sim *sim, struct iommu *iommu,
		      struct peer *peer, const char *ep)
{
	peer->ep = ep;
	pci_sim_bind_vfio(sim, ep, peer->bdf);
	peer->device = vfio_pci_device_init(peer->bdf, iommu);
	vfio_pci_cmd_set(peer->device, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

static void importer_open(struct pci_sim *sim, struct iommu *iommu,
			  struct peer *peer, const char *ep)
{
	peer_open(sim, iommu, peer, ep);
	vfio_pci_tph_opt_in(peer->device);
}

static void peer_close(struct peer *peer)
{
	vfio_pci_device_cleanup(peer->device);
	peer->device = NULL;
}

static int export_buf(struct peer *peer)
{
	return vfio_pci_dma_buf_export(peer->device, BUF_BAR, BUF_OFFSET,
				       BUF_SIZE);
}

/* Where peers reach the exported range */
static u64 buf_address(struct peer *peer)
{
	u32 bar;

	sysfs_config_access(peer->bdf, false, PCI_BASE_ADDRESS_0, sizeof(bar),
			    &bar);

	return (bar & PCI_BASE_ADDRESS_MEM_MASK) + BUF_OFFSET;
}

static u64 *buf_data(struct peer *peer)
{
	return peer->device->bars[BUF_BAR].vaddr + BUF_OFFSET;
}

static void publish(struct peer *peer, int fd)
{
	vfio_pci_dma_buf_tph(peer->device, fd, ST | ST_EXT, TAG, XTAG, PH);
}

static int probe(struct peer *peer, u16 feature)
{
	return __vfio_device_feature_probe(peer->device->fd, feature);
}

static int resolve(struct peer *peer, u32 flags, int fd,
		   struct vfio_device_feature_tph_resolve *resolve)
{
	return __vfio_pci_tph_resolve(peer->device, SRC_DMABUF | flags, fd,
				      resolve);
}

static int st_one(struct peer *peer, u32 flags, int fd)
{
	u32 dest = fd;

	return __vfio_pci_tph_st(peer->device, SRC_DMABUF | flags, 0, 1, &dest);
}

static u8 req_type(bool ext)
{
	return ext ? PCI_TPH_REQ_EXT_TPH : PCI_TPH_REQ_TPH_ONLY;
}

static u16 hw_entry(struct pci_sim *sim, struct peer *peer, int i)
{
	u16 entries[MAX_ENTRIES];

	VFIO_ASSERT_GT(pci_sim_st_table(sim, peer->ep, entries, MAX_ENTRIES), i);

	return entries[i];
}

/* A dma-buf of an exporter that has no hints, -1 if there is no such exporter */
static int foreign_buf(void)
{
	struct udmabuf_create create = { .size = SZ_4K };
	int device, fd;

	device = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
	if (device < 0) {
		ksft_print_msg("No udmabuf, so no dma-buf without get_tph()\n");
		return -1;
	}

	create.memfd = memfd_create("foreign", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	VFIO_ASSERT_GE((int)create.memfd, 0);
	VFIO_ASSERT_EQ(ftruncate(create.memfd, SZ_4K), 0);
	VFIO_ASSERT_EQ(fcntl(create.memfd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	fd = ioctl(device, UDMABUF_CREATE, &create);
	VFIO_ASSERT_GE(fd, 0);
	VFIO_ASSERT_EQ(close(create.memfd), 0);
	VFIO_ASSERT_EQ(close(device), 0);

	return fd;
}

/* --- Below one switch, at each level --- */

FIXTURE(peers) {
	struct pci_sim *sim;
	struct pci_sim_trace *trace;
	struct iommu *iommu;
	u64 violations;
	int refs;
	int fd;

	/* One that exports, and one with an ST table and one without */
	struct peer exporter;
	struct peer table;
	struct peer bare;

	/*
	 * Tests open these if they need them: No ST mode alone, all modes and a
	 * table, and a table in the MSI-X table
	 */
	struct peer ns;
	struct peer all;
	struct peer msix;
};

FIXTURE_VARIANT(peers) {
	int level;
};

FIXTURE_VARIANT_ADD(peers, level_0) { .level = 0 };
FIXTURE_VARIANT_ADD(peers, level_1) { .level = 1 };
FIXTURE_VARIANT_ADD(peers, level_2) { .level = 2 };
FIXTURE_VARIANT_ADD(peers, level_3) { .level = 3 };

static void add_switch(struct pci_sim *sim)
{
	pci_sim_add(sim, "hb0/rp0", "acs=0");
	pci_sim_add(sim, "hb0/rp0/sw0/dp0", "acs=0");
	pci_sim_add(sim, "hb0/rp0/sw0/dp1", "acs=0");
	pci_sim_add(sim, "hb0/rp0/sw0/dp2", "acs=0");
	pci_sim_add(sim, "hb0/rp0/sw0/dp3", "acs=0");
	pci_sim_add(sim, "hb0/rp0/sw0/dp4", "acs=0");
	pci_sim_add(sim, "hb0/rp0/sw0/dp5", "acs=0");
}

FIXTURE_SETUP(peers)
{
	const char *reason = setup_tph(variant->level);

	if (reason)
		SKIP(return, "%s", reason);

	self->refs = vfio_pci_core_refs();
	self->sim = pci_sim_init(SIM_NAME);
	add_switch(self->sim);
	pci_sim_add(self->sim, "hb0/rp0/sw0/dp0/ep0",
		    "tph_completer=3 tph_ext=1");
	/* Without DS mode tags are not told before level 3. */
	pci_sim_add(self->sim, "hb0/rp0/sw0/dp1/ep0",
		    "tph_ext=1 tph_modes=3 tph_loc=1 tph_st_size=15");
	pci_sim_add(self->sim, "hb0/rp0/sw0/dp2/ep0",
		    "tph_ext=1 tph_modes=7 tph_loc=0");
	pci_sim_add(self->sim, "hb0/rp0/sw0/dp3/ep0",
		    "tph_ext=1 tph_modes=1 tph_loc=1 tph_st_size=15");
	pci_sim_add(self->sim, "hb0/rp0/sw0/dp4/ep0",
		    "tph_ext=1 tph_modes=7 tph_loc=1 tph_st_size=15");
	pci_sim_add(self->sim, "hb0/rp0/sw0/dp5/ep0",
		    "tph_ext=1 tph_modes=3 tph_loc=2 tph_st_size=15");
	pci_sim_set_live(self->sim, true);

	self->violations = pci_sim_violations();
	self->trace = pci_sim_trace_init();
	self->iommu = iommu_init(MODE_IOMMUFD);
	peer_open(self->sim, self->iommu, &self->exporter,
		  "hb0/rp0/sw0/dp0/ep0");
	importer_open(self->sim, self->iommu, &self->table,
		      "hb0/rp0/sw0/dp1/ep0");
	importer_open(self->sim, self->iommu, &self->bare,
		      "hb0/rp0/sw0/dp2/ep0");
	self->bare.ds = true;
	self->all.ds = true;
	self->fd = export_buf(&self->exporter);
}

FIXTURE_TEARDOWN(peers)
{
	struct peer *peers[] = {
		&self->exporter, &self->table, &self->bare,
		&self->ns, &self->all, &self->msix,
	};
	int i;

	close(self->fd);
	for (i = 0; i < ARRAY_SIZE(peers); i++)
		if (peers[i]->device)
			peer_close(peers[i]);
	iommu_cleanup(self->iommu);

	VFIO_ASSERT_EQ(pci_sim_violations(), self->violations);
	pci_sim_trace_cleanup(self->trace);
	pci_sim_cleanup(self->sim);
	EXPECT_EQ(self->refs, vfio_pci_core_refs())
		TH_LOG("A dma-buf is left");
}

/* Whether the tag of a dma-buf is told to the user of the device */
static bool told(struct peer *peer, int level)
{
	return level >= 3 || (level >= 2 && peer->ds);
}

/* RESOLVE for a dma-buf with what has been published */
static void check_resolve(struct peer *peer, int level, int fd, u32 published,
			  u8 st, u16 st_ext, u8 ph, bool ext)
{
	struct vfio_device_feature_tph_resolve r;
	u16 tag = ext ? st_ext : st;
	u8 valid = 0;
	int ret;

	ret = resolve(peer, ext ? EXTENDED : 0, fd, &r);
	if (ext && level < 1) {
		VFIO_ASSERT_EQ(ret, -EOPNOTSUPP);
		VFIO_ASSERT_EQ(r.valid, PCI_TPH_UNTOUCHED);
		return;
	}

	if (published)
		valid |= VALID_PH;
	if (published & (ext ? ST_EXT : ST) && tag && told(peer, level))
		valid |= VALID_ST;

	VFIO_ASSERT_EQ(ret, 0);
	VFIO_ASSERT_EQ(r.valid, valid, "Published %#x, extended %d\n",
		       published, ext);
	VFIO_ASSERT_EQ(r.ph, valid & VALID_PH ? ph : 0);
	VFIO_ASSERT_EQ(r.st, valid & VALID_ST ? tag : 0);
}

/* TPH_ST, with requests of the kind that the tag is for enabled */
static void check_st(struct pci_sim *sim, struct peer *peer, int level, int fd,
		     u32 published, u8 st, u16 st_ext, bool ext)
{
	u32 ns = ext ? EXTENDED : 0;
	u16 tag = 0;

	if (level < 1) {
		VFIO_ASSERT_EQ(st_one(peer, ns, fd), -EOPNOTSUPP);
		return;
	}

	if (published & (ext ? ST_EXT : ST))
		tag = ext ? st_ext : st;

	vfio_pci_tph_enable(peer->device, PCI_TPH_ST_IV_MODE, req_type(ext));
	VFIO_ASSERT_EQ(st_one(peer, ns, fd), 1);
	VFIO_ASSERT_EQ(hw_entry(sim, peer, 0), tag);
	VFIO_ASSERT_EQ(st_one(peer, ns | REQUIRE_ST, fd), tag ? 1 : -ENOENT);
	VFIO_ASSERT_EQ(hw_entry(sim, peer, 0), tag);
}

/* What importers are told is what has been published last. */
TEST_F_TIMEOUT(peers, published, 120)
{
	static const struct {
		u32 flags;
		u8 st;
		u16 st_ext;
		u8 ph;
		int ret;
	} sets[] = {
		{ ST,		TAG,	XTAG,	2,	0 },
		{ ST_EXT,	TAG,	XTAG,	3,	0 },
		{ ST | ST_EXT,	TAG,	XTAG,	1,	0 },
		{ ST | ST_EXT,	0xff,	0xffff,	0,	0 },
		/* 0 is published, and is no preference to a table. */
		{ ST | ST_EXT,	0,	0,	2,	0 },
		/* A 16-bit tag that fits into 8 bits is none of 8 bits. */
		{ ST_EXT,	0,	0x21,	2,	0 },
		{ ST,		TAG,	0,	0,	0 },
		{ ST,		TAG,	0,	4,	-EINVAL },
		{ 0,		0,	0,	7,	-EINVAL },
		{ 1 << 2,	0,	0,	0,	-EINVAL },
		{ ST | 1u << 31, TAG,	0,	0,	-EINVAL },
		{ 0,		TAG,	XTAG,	3,	0 },
		{ ST | ST_EXT,	TAG,	XTAG,	2,	0 },
	};
	struct { u32 flags; u8 st; u16 st_ext; u8 ph; } is = {};
	struct peer *peers[] = {
		&self->table, &self->bare, &self->ns, &self->all,
	};
	int i, j, ret, ext;

	importer_open(self->sim, self->iommu, &self->ns, "hb0/rp0/sw0/dp3/ep0");
	importer_open(self->sim, self->iommu, &self->all,
		      "hb0/rp0/sw0/dp4/ep0");

	for (i = -1; i < (int)ARRAY_SIZE(sets); i++) {
		/* First without any */
		if (i >= 0) {
			ret = __vfio_pci_dma_buf_tph(self->exporter.device,
						     self->fd, sets[i].flags,
						     sets[i].st, sets[i].st_ext,
						     sets[i].ph);
			ASSERT_EQ(sets[i].ret, ret)
				TH_LOG("Case %d", i);
			if (!ret) {
				is.flags = sets[i].flags;
				is.st = sets[i].st;
				is.st_ext = sets[i].st_ext;
				is.ph = sets[i].ph;
			}
		}

		for (ext = 0; ext <= 1; ext++) {
			for (j = 0; j < ARRAY_SIZE(peers); j++)
				check_resolve(peers[j], variant->level,
					      self->fd, is.flags, is.st,
					      is.st_ext, is.ph, ext);
			check_st(self->sim, &self->table, variant->level,
				 self->fd, is.flags, is.st, is.st_ext, ext);
		}
	}

	/* No ST mode has no use for a table. */
	ASSERT_EQ(-EOPNOTSUPP, st_one(&self->ns, 0, self->fd));
}

/* Let the peer write to the buffer, and look at the request where it arrives. */
static void check_request(struct pci_sim_trace *trace, struct peer *peer,
			  struct peer *exporter, u8 ph, u16 own_st, u16 st,
			  bool ext)
{
	static u64 pattern = PATTERN;
	struct pci_sim_desc desc = {
		.op = PCI_SIM_OP_WRITE,
		.src = ++pattern,
		.dst = buf_address(exporter),
		.len = 64,
		.st = own_st,
		.ph = ph,
	};
	const struct pci_sim_record *record;

	pci_sim_trace_start(trace);
	VFIO_ASSERT_EQ(pci_sim_engine_run(peer->device, &desc), 0);
	pci_sim_trace_stop(trace);

	VFIO_ASSERT_EQ(buf_data(exporter)[0], pattern);
	record = pci_sim_trace_first_write(trace, peer->bdf);
	VFIO_ASSERT_NOT_NULL(record);
	VFIO_ASSERT_EQ(record->fate, PCI_SIM_FATE_OK);
	VFIO_ASSERT_EQ(record->addr, desc.dst);
	VFIO_ASSERT_TRUE(pci_sim_record_target(record, exporter->bdf));
	VFIO_ASSERT_EQ(record->flags, PCI_SIM_RECORD_PEER | PCI_SIM_RECORD_TH |
		       (ext ? PCI_SIM_RECORD_PREFIX : 0));
	VFIO_ASSERT_EQ(record->ph, ph);
	VFIO_ASSERT_EQ(record->st, st);
}

/* From the owner of the one device to the request of the other one */
TEST_F_TIMEOUT(peers, requests, 120)
{
	struct vfio_device_feature_tph_resolve r;
	int ext;

	publish(&self->exporter, self->fd);

	for (ext = 0; ext <= (variant->level >= 1); ext++) {
		u8 type = req_type(ext);
		u32 flags = ext ? EXTENDED : 0;
		u16 tag = ext ? XTAG : TAG;

		ASSERT_EQ(0, resolve(&self->table, flags, self->fd, &r));
		ASSERT_EQ(PH, r.ph);
		if (variant->level >= 1) {
			ASSERT_EQ(1, st_one(&self->table, flags, self->fd));
			vfio_pci_tph_enable(self->table.device,
					    PCI_TPH_ST_IV_MODE, type);
			check_request(self->trace, &self->table,
				      &self->exporter, r.ph, 0, tag, ext);
		} else {
			vfio_pci_tph_enable(self->table.device,
					    PCI_TPH_ST_NS_MODE, type);
			check_request(self->trace, &self->table,
				      &self->exporter, r.ph, 0, 0, ext);
		}

		ASSERT_EQ(0, resolve(&self->bare, flags, self->fd, &r));
		if (variant->level < 2)
			continue;
		ASSERT_EQ(VALID_PH | VALID_ST, r.valid);
		vfio_pci_tph_enable(self->bare.device, PCI_TPH_ST_DS_MODE, type);
		check_request(self->trace, &self->bare, &self->exporter, r.ph,
			      r.st, tag, ext);
	}
}

/* The vector can come later than the tag, which is a snapshot all the same. */
TEST_F_TIMEOUT(peers, msix, 120)
{
	struct peer *msix = &self->msix;
	int ext;

	if (variant->level < 1)
		SKIP(return, "No table at this level");

	importer_open(self->sim, self->iommu, msix, "hb0/rp0/sw0/dp5/ep0");

	for (ext = 0; ext <= 1; ext++) {
		publish(&self->exporter, self->fd);
		vfio_pci_tph_enable(msix->device, PCI_TPH_ST_IV_MODE,
				    req_type(ext));
		ASSERT_EQ(1, st_one(msix, ext ? EXTENDED : 0, self->fd));
		ASSERT_EQ(0, hw_entry(self->sim, msix, 0));
		vfio_pci_dma_buf_tph(self->exporter.device, self->fd, 0, 0, 0,
				     0);

		vfio_pci_msix_enable(msix->device, 0, 1);
		ASSERT_EQ(ext ? XTAG : TAG, hw_entry(self->sim, msix, 0));
		check_request(self->trace, msix, &self->exporter, PH, 0,
			      ext ? XTAG : TAG, ext);
		vfio_pci_msix_disable(msix->device);
	}
}

/* Tags of a buffer of the device's own are literal tags. */
TEST_F_TIMEOUT(peers, own_buffer, 120)
{
	bool literal = variant->level >= 3;
	struct peer *exporter = &self->exporter;
	struct vfio_device_feature_tph_resolve r;
	int copy = dup(self->fd), i, ret;
	u32 dests[2];

	ASSERT_GE(copy, 0);
	publish(exporter, self->fd);
	vfio_pci_tph_opt_in(exporter->device);

	for (i = 0; i < 4; i++) {
		int fd = i < 2 ? self->fd : copy;
		bool ext = i % 2;
		u32 flags = ext ? EXTENDED : 0;
		u16 tag = ext ? XTAG : TAG;

		ret = literal ? 0 : -EINVAL;
		if (ext && variant->level < 1)
			ret = -EOPNOTSUPP;
		ASSERT_EQ(ret, resolve(exporter, flags, fd, &r));
		ASSERT_EQ(literal ? VALID_PH | VALID_ST : PCI_TPH_UNTOUCHED,
			  r.valid);
		if (literal)
			ASSERT_EQ(tag, r.st);
		if (variant->level < 1)
			continue;

		vfio_pci_tph_enable(exporter->device, PCI_TPH_ST_IV_MODE,
				    req_type(ext));
		ASSERT_EQ(literal ? 1 : -EINVAL, st_one(exporter, flags, fd));
		ASSERT_EQ(literal ? tag : 0, hw_entry(self->sim, exporter, 0));
	}
	close(copy);
	if (variant->level < 1)
		return;

	/* Nor later in a batch */
	dests[0] = export_buf(&self->table);
	dests[1] = self->fd;
	ASSERT_EQ(literal ? 2 : 1,
		  __vfio_pci_tph_st(exporter->device, SRC_DMABUF, 0, 2, dests));
	close(dests[0]);
}

/* Files that are no dma-buf, and dma-bufs that are not what is wanted */
TEST_F_TIMEOUT(peers, bad_files, 120)
{
	struct vfio_device_feature_tph_resolve r;
	struct peer *exporter = &self->exporter;
	int closed, file, foreign, i;

	publish(exporter, self->fd);

	file = open("/dev/null", O_RDWR | O_CLOEXEC);
	foreign = foreign_buf();
	closed = dup(self->fd);
	close(closed);

	for (i = 0; i < 2; i++) {
		struct peer *peer = i ? &self->bare : &self->table;

		ASSERT_EQ(-EBADF, resolve(peer, 0, closed, &r));
		ASSERT_EQ(-EBADF, resolve(peer, 0, -1, &r));
		ASSERT_EQ(-EBADF, resolve(peer, 0, 0x7fffffff, &r));
		ASSERT_EQ(-EINVAL, resolve(peer, 0, file, &r));
		ASSERT_EQ(PCI_TPH_UNTOUCHED, r.valid);
		ASSERT_EQ(PCI_TPH_UNTOUCHED, r.ph);
		if (foreign >= 0) {
			ASSERT_EQ(0, resolve(peer, 0, foreign, &r));
			ASSERT_EQ(0, r.valid);
			ASSERT_EQ(0, r.ph);
			ASSERT_EQ(0, r.st);
		}
	}

	ASSERT_EQ(-EBADF, __vfio_pci_dma_buf_tph(exporter->device, closed, ST,
						 1, 0, 0));
	ASSERT_EQ(-EBADF, __vfio_pci_dma_buf_tph(exporter->device, -1, ST, 1, 0,
						 0));
	ASSERT_EQ(-EINVAL, __vfio_pci_dma_buf_tph(exporter->device, file, ST, 1,
						  0, 0));
	if (foreign >= 0)
		ASSERT_EQ(-EINVAL, __vfio_pci_dma_buf_tph(exporter->device,
							  foreign, ST, 1, 0, 0));

	if (variant->level >= 1 && foreign >= 0) {
		ASSERT_EQ(1, st_one(&self->table, 0, self->fd));
		ASSERT_EQ(TAG, hw_entry(self->sim, &self->table, 0));
		ASSERT_EQ(-ENOENT, st_one(&self->table, REQUIRE_ST, foreign));
		ASSERT_EQ(TAG, hw_entry(self->sim, &self->table, 0));
		ASSERT_EQ(1, st_one(&self->table, 0, foreign));
		ASSERT_EQ(0, hw_entry(self->sim, &self->table, 0));
	}

	/* Nobody who has asked is attached any more. */
	publish(exporter, self->fd);

	if (foreign >= 0)
		close(foreign);
	close(file);
}

/*
 * Each entry of a batch in turn is the bad one: what comes before it is done, the
 * rest is as it was, and TPH is on.
 */
static void check_partial(FIXTURE_DATA(peers) * self, bool ext, int bad,
			  u32 modifiers, int bad_ret)
{
	u32 ctrl = PCI_TPH_CTRL_VALUE(PCI_TPH_ST_IV_MODE, req_type(ext));
	u32 flags = SRC_DMABUF | (ext ? EXTENDED : 0);
	struct vfio_pci_device *device = self->table.device;
	u16 old = ext ? OLD_XTAG : OLD_TAG;
	u16 tag = ext ? XTAG : TAG;
	int i, k, ret;

	for (k = 0; k < 4; k++) {
		u32 dests[] = { self->fd, self->fd, self->fd, self->fd };

		/* This also shows that nobody is attached any more. */
		vfio_pci_dma_buf_tph(self->exporter.device, self->fd,
				     ST | ST_EXT, OLD_TAG, OLD_XTAG, 0);
		vfio_pci_tph_st(device, flags, 0, ARRAY_SIZE(dests), dests);
		publish(&self->exporter, self->fd);

		dests[k] = bad;
		ret = __vfio_pci_tph_st(device, flags | modifiers, 0,
					ARRAY_SIZE(dests), dests);
		VFIO_ASSERT_EQ(ret, k ?: bad_ret, "%d in entry %d\n", bad_ret,
			       k);
		for (i = 0; i < ARRAY_SIZE(dests); i++)
			VFIO_ASSERT_EQ(hw_entry(self->sim, &self->table, i),
				       i < k ? tag : old,
				       "%d in entry %d: entry %d\n", bad_ret, k,
				       i);
		VFIO_ASSERT_EQ(vfio_pci_tph_ctrl(device), ctrl);
		VFIO_ASSERT_EQ(pci_sim_tph_ctrl(self->sim, self->table.ep), ctrl);
	}
}

/* All that can be wrong with a dma-buf, or what is taken for one */
TEST_F_TIMEOUT(peers, partial, 120)
{
	struct peer *exporter = &self->exporter;
	int closed, file, gone, poor, revoked, ext;

	if (variant->level < 1)
		SKIP(return, "No table at this level");

	peer_open(self->sim, self->iommu, &self->ns, "hb0/rp0/sw0/dp3/ep0");
	gone = export_buf(&self->ns);
	peer_close(&self->ns);
	revoked = export_buf(&self->bare);
	vfio_pci_cmd_clear(self->bare.device, PCI_COMMAND_MEMORY);
	poor = export_buf(exporter);
	file = open("/dev/null", O_RDWR | O_CLOEXEC);
	closed = dup(file);
	close(closed);

	for (ext = 0; ext <= 1; ext++) {
		vfio_pci_tph_enable(self->table.device, PCI_TPH_ST_IV_MODE,
				    req_type(ext));
		check_partial(self, ext, closed, 0, -EBADF);
		check_partial(self, ext, file, 0, -EINVAL);
		check_partial(self, ext, gone, 0, -ENODEV);
		check_partial(self, ext, revoked, 0, -ENODEV);

		/* No tag at all, none but 0, and one of the other kind */
		vfio_pci_dma_buf_tph(exporter->device, poor, 0, 0, 0, 0);
		check_partial(self, ext, poor, REQUIRE_ST, -ENOENT);
		vfio_pci_dma_buf_tph(exporter->device, poor, ST | ST_EXT, 0, 0,
				     PH);
		check_partial(self, ext, poor, REQUIRE_ST, -ENOENT);
		vfio_pci_dma_buf_tph(exporter->device, poor, ext ? ST : ST_EXT,
				     TAG, XTAG, PH);
		check_partial(self, ext, poor, REQUIRE_ST, -ENOENT);
	}

	close(file);
	close(poor);
	close(revoked);
	close(gone);
}

/* A dma-buf is an affair of the device that has exported it, as it is open. */
TEST_F_TIMEOUT(peers, other_device, 120)
{
	struct vfio_device_feature_tph_resolve r;
	struct peer *exporter = &self->exporter;
	int fd = export_buf(&self->bare);

	/* This one could not publish anything in any case, that one could. */
	ASSERT_EQ(-EOPNOTSUPP, __vfio_pci_dma_buf_tph(self->bare.device, fd, ST,
						      TAG, 0, 0));
	ASSERT_EQ(-EINVAL, __vfio_pci_dma_buf_tph(exporter->device, fd, ST, TAG,
						  0, 0));
	close(fd);

	publish(exporter, self->fd);
	peer_close(exporter);
	ASSERT_EQ(-ENODEV, resolve(&self->table, 0, self->fd, &r));
	ASSERT_EQ(PCI_TPH_UNTOUCHED, r.valid);
	if (variant->level >= 1)
		ASSERT_EQ(-ENODEV, st_one(&self->table, 0, self->fd));

	peer_open(self->sim, self->iommu, exporter, exporter->ep);
	ASSERT_EQ(-EINVAL, __vfio_pci_dma_buf_tph(exporter->device, self->fd,
						  ST, TAG, 0, 0));
	ASSERT_EQ(-ENODEV, resolve(&self->table, 0, self->fd, &r));
}

/* Nobody can attach while access is revoked, but the hints stay. */
TEST_F_TIMEOUT(peers, revoked, 120)
{
	struct vfio_device_feature_tph_resolve r;
	struct peer *exporter = &self->exporter;

	publish(exporter, self->fd);
	vfio_pci_cmd_clear(exporter->device, PCI_COMMAND_MEMORY);
	ASSERT_EQ(-ENODEV, resolve(&self->table, 0, self->fd, &r));
	ASSERT_EQ(PCI_TPH_UNTOUCHED, r.valid);
	if (variant->level >= 1)
		ASSERT_EQ(-ENODEV, st_one(&self->table, 0, self->fd));
	vfio_pci_cmd_set(exporter->device, PCI_COMMAND_MEMORY);
	if (variant->level >= 1)
		ASSERT_EQ(1, st_one(&self->table, REQUIRE_ST, self->fd));
	check_resolve(&self->table, variant->level, self->fd, ST | ST_EXT, TAG,
		      XTAG, PH, false);

	vfio_pci_device_reset(exporter->device);
	vfio_pci_cmd_set(exporter->device, PCI_COMMAND_MEMORY);
	check_resolve(&self->table, variant->level, self->fd, ST | ST_EXT, TAG,
		      XTAG, PH, false);

	/* Publishing does not depend on it, either. */
	vfio_pci_cmd_clear(exporter->device, PCI_COMMAND_MEMORY);
	vfio_pci_dma_buf_tph(exporter->device, self->fd, ST, 0x12, 0, 1);
	vfio_pci_cmd_set(exporter->device, PCI_COMMAND_MEMORY);
	check_resolve(&self->table, variant->level, self->fd, ST, 0x12, 0, 1,
		      false);
}

/* What has been programmed is a snapshot. */
TEST_F_TIMEOUT(peers, snapshot, 120)
{
	if (variant->level < 1)
		SKIP(return, "No table at this level");

	publish(&self->exporter, self->fd);
	vfio_pci_tph_enable(self->table.device, PCI_TPH_ST_IV_MODE,
			    PCI_TPH_REQ_TPH_ONLY);
	ASSERT_EQ(1, st_one(&self->table, 0, self->fd));
	vfio_pci_dma_buf_tph(self->exporter.device, self->fd, 0, 0, 0, 0);
	check_request(self->trace, &self->table, &self->exporter, PH, 0, TAG,
		      false);
}

#define PROBE	VFIO_DEVICE_FEATURE_PROBE
#define GET	VFIO_DEVICE_FEATURE_GET
#define SET	VFIO_DEVICE_FEATURE_SET

/* PROBE tells whether the device can, and SET has to be long enough. */
TEST_F_TIMEOUT(peers, feature_ops, 120)
{
	static const struct {
		u32 flags;
		size_t size;
		int ret;
	} ops[] = {
		{ PROBE,		0,	0 },
		{ PROBE | SET,		0,	0 },
		{ PROBE | GET,		0,	-EINVAL },
		{ PROBE | GET | SET,	0,	-EINVAL },
		{ 0,			64,	-EINVAL },
		{ GET,			64,	-EINVAL },
		{ SET,			0,	-EINVAL },
		{ SET,			11,	-EINVAL },
		{ SET,			12,	0 },
		{ SET,			64,	0 },
	};
	struct vfio_device_feature *feature;
	void *pages;
	int i, ret;

	for (i = 0; i < ARRAY_SIZE(ops); i++) {
		u8 data[64] = {};

		memcpy(data, &self->fd, sizeof(self->fd));
		ret = __vfio_device_feature(self->exporter.device->fd,
					    ops[i].flags |
					    VFIO_DEVICE_FEATURE_DMA_BUF_TPH,
					    data, ops[i].size);
		EXPECT_EQ(ops[i].ret, ret)
			TH_LOG("Case %d", i);

		/* No completer, no use */
		ret = __vfio_device_feature(self->bare.device->fd,
					    ops[i].flags |
					    VFIO_DEVICE_FEATURE_DMA_BUF_TPH,
					    data, ops[i].size);
		EXPECT_EQ(-EOPNOTSUPP, ret)
			TH_LOG("Case %d", i);
	}

	pages = mmap(NULL, 2 * SZ_4K, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, pages);
	ASSERT_EQ(0, munmap(pages + SZ_4K, SZ_4K));
	feature = pages + SZ_4K - sizeof(*feature);
	feature->argsz = SZ_4K;
	feature->flags = SET | VFIO_DEVICE_FEATURE_DMA_BUF_TPH;
	ASSERT_EQ(-1, ioctl(self->exporter.device->fd, VFIO_DEVICE_FEATURE,
			    feature));
	ASSERT_EQ(EFAULT, errno);
	ASSERT_EQ(0, munmap(pages, SZ_4K));
}

static struct iommu_ioas_map_file map_file(struct iommu *iommu, int fd)
{
	struct iommu_ioas_map_file map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
		.ioas_id = iommu->ioas_id,
		.fd = fd,
		.length = BUF_SIZE,
	};

	VFIO_ASSERT_EQ(ioctl(iommu->iommufd, IOMMU_IOAS_MAP_FILE, &map), 0);

	return map;
}

static void unmap_file(struct iommu *iommu,
		       const struct iommu_ioas_map_file *map)
{
	struct iommu_ioas_unmap unmap = {
		.size = sizeof(unmap),
		.ioas_id = iommu->ioas_id,
		.iova = map->iova,
		.length = map->length,
	};

	VFIO_ASSERT_EQ(ioctl(iommu->iommufd, IOMMU_IOAS_UNMAP, &unmap), 0);
}

/* iommufd maps as ever, does not ask, and so keeps nobody from publishing. */
TEST_F_TIMEOUT(peers, iommufd, 120)
{
	struct pci_sim_desc desc = {
		.op = PCI_SIM_OP_WRITE,
		.src = PATTERN,
		.len = 64,
	};
	struct iommu_ioas_map_file map;

	publish(&self->exporter, self->fd);
	map = map_file(self->iommu, self->fd);
	vfio_pci_dma_buf_tph(self->exporter.device, self->fd, ST, 1, 0, 1);
	publish(&self->exporter, self->fd);

	desc.dst = map.iova;
	ASSERT_EQ(0, pci_sim_engine_run(self->bare.device, &desc));
	ASSERT_EQ(PATTERN, buf_data(&self->exporter)[0]);

	/* What has been revoked does not come back, it has to be mapped anew. */
	vfio_pci_cmd_clear(self->exporter.device, PCI_COMMAND_MEMORY);
	ASSERT_EQ(-EIO, pci_sim_engine_run(self->bare.device, &desc));
	vfio_pci_cmd_set(self->exporter.device, PCI_COMMAND_MEMORY);
	vfio_pci_dma_buf_tph(self->exporter.device, self->fd, 0, 0, 0, 0);
	desc.src = ~PATTERN;
	ASSERT_EQ(-EIO, pci_sim_engine_run(self->bare.device, &desc));
	ASSERT_EQ(PATTERN, buf_data(&self->exporter)[0]);
	unmap_file(self->iommu, &map);

	map = map_file(self->iommu, self->fd);
	desc.dst = map.iova;
	ASSERT_EQ(0, pci_sim_engine_run(self->bare.device, &desc));
	ASSERT_EQ(~PATTERN, buf_data(&self->exporter)[0]);
	unmap_file(self->iommu, &map);
}

/* --- What it takes to publish --- */

/* For tests that build what they need, and may take longer than others */
FIXTURE(single) {
};

FIXTURE_SETUP(single)
{
}

FIXTURE_TEARDOWN(single)
{
}

TEST_F_TIMEOUT(single, completer, 120)
{
	static const struct {
		int st, st_ext;
	} expected[] = {
		{ -EOPNOTSUPP, -EOPNOTSUPP },
		{ 0, -EOPNOTSUPP },
		{ -EOPNOTSUPP, -EOPNOTSUPP },
		{ 0, 0 },
	};
	const char *reason = setup_level(0);
	struct pci_sim *sim;
	struct iommu *iommu;
	struct peer peer;
	char ep[32], attrs[32];
	int i, fd, st, st_ext;

	if (reason)
		SKIP(return, "%s", reason);

	/* No requester capability, and no port that takes hints */
	sim = pci_sim_init(SIM_NAME);
	for (i = 0; i < ARRAY_SIZE(expected); i++) {
		snprintf_assert(ep, sizeof(ep), "hb0/rp%d", i);
		pci_sim_add(sim, ep, "tph_completer=0");
		snprintf_assert(ep, sizeof(ep), "hb0/rp%d/ep0", i);
		snprintf_assert(attrs, sizeof(attrs), "tph=0 tph_completer=%d",
				i);
		pci_sim_add(sim, ep, attrs);
	}
	pci_sim_set_live(sim, true);

	for (i = 0; i < ARRAY_SIZE(expected); i++) {
		snprintf_assert(ep, sizeof(ep), "hb0/rp%d/ep0", i);
		iommu = iommu_init(MODE_IOMMUFD);
		peer_open(sim, iommu, &peer, ep);
		fd = export_buf(&peer);
		st = expected[i].st;
		st_ext = expected[i].st_ext;
		if (vfio_pci_tph_turned_off()) {
			st = -EOPNOTSUPP;
			st_ext = -EOPNOTSUPP;
		}

		EXPECT_EQ(st,
			  probe(&peer, VFIO_DEVICE_FEATURE_DMA_BUF_TPH));
		EXPECT_EQ(st,
			  __vfio_pci_dma_buf_tph(peer.device, fd, ST, 1, 0, 0));
		EXPECT_EQ(st_ext,
			  __vfio_pci_dma_buf_tph(peer.device, fd, ST_EXT, 0, 1,
						 0));
		EXPECT_EQ(st_ext,
			  __vfio_pci_dma_buf_tph(peer.device, fd, ST | ST_EXT, 0,
						 1, 0));
		EXPECT_EQ(st,
			  __vfio_pci_dma_buf_tph(peer.device, fd, 0, 0, 0, 0));

		/* It takes this to attach, too. */
		EXPECT_EQ(-EOPNOTSUPP,
			  probe(&peer, VFIO_DEVICE_FEATURE_TPH_RESOLVE));

		close(fd);
		peer_close(&peer);
		iommu_cleanup(iommu);
	}
	pci_sim_cleanup(sim);
}

/* --- An importer in the kernel, in a group of its own --- */

FIXTURE(kernel) {
	struct pci_sim *sim;
	struct pci_sim_trace *trace;
	struct iommu *iommu;
	struct peer exporter;
	int refs;
	int fd;

	/* Their path to the root complex keeps hints, and drops them */
	char importer[PCI_SIM_BDF_SIZE];
	char dropped[PCI_SIM_BDF_SIZE];
};

FIXTURE_SETUP(kernel)
{
	const char *reason = setup_tph(0);

	if (!reason && !pci_sim_dmabuf_available())
		reason = "pci_sim_dmabuf is not available";
	if (reason)
		SKIP(return, "%s", reason);

	self->refs = vfio_pci_core_refs();
	self->sim = pci_sim_init(SIM_NAME);
	/* Root Ports that pci-p2pdma lets peers talk through */
	pci_sim_add(self->sim, "hb0/rp0", "vendor=0x1ae0");
	pci_sim_add(self->sim, "hb0/rp0/ep0", "tph_completer=3");
	pci_sim_add(self->sim, "hb0/rp1/ep0", "tph_ext=1");
	pci_sim_add(self->sim, "hb0/rp2", "forward_hints=0");
	pci_sim_add(self->sim, "hb0/rp2/ep0", "tph_loc=0");
	pci_sim_set_live(self->sim, true);

	self->trace = pci_sim_trace_init();
	pci_sim_get_bdf(self->sim, "hb0/rp1/ep0", self->importer);
	sysfs_driver_bind(self->importer, PCI_SIM_DMABUF_DRIVER);
	pci_sim_get_bdf(self->sim, "hb0/rp2/ep0", self->dropped);
	sysfs_driver_bind(self->dropped, PCI_SIM_DMABUF_DRIVER);
	self->iommu = iommu_init(MODE_IOMMUFD);
	peer_open(self->sim, self->iommu, &self->exporter, "hb0/rp0/ep0");
	self->fd = export_buf(&self->exporter);
}

FIXTURE_TEARDOWN(kernel)
{
	close(self->fd);
	if (self->exporter.device)
		peer_close(&self->exporter);
	iommu_cleanup(self->iommu);
	pci_sim_trace_cleanup(self->trace);
	pci_sim_cleanup(self->sim);
	EXPECT_EQ(self->refs, vfio_pci_core_refs())
		TH_LOG("A dma-buf is left");
}

static int attach(int fd, const char *bdf)
{
	int importer = pci_sim_dmabuf_open();

	pci_sim_dmabuf_attach(importer, fd, bdf);

	return importer;
}

static void check_told(int importer, bool ext, int ret, u16 st, u8 ph)
{
	u16 told_st = 0xa5a5;
	u8 told_ph = 0xa5;

	VFIO_ASSERT_EQ(__pci_sim_dmabuf_get_tph(importer, ext, &told_st,
						&told_ph), ret);
	VFIO_ASSERT_EQ(told_st, ret ? 0xa5a5 : st);
	VFIO_ASSERT_EQ(told_ph, ret ? 0xa5 : ph);
}

/* While an importer is attached that has asked, its answer stays true. */
TEST_F_TIMEOUT(kernel, busy, 120)
{
	struct peer *exporter = &self->exporter;
	int importer, other;

	/* One that has not asked is not in the way. */
	importer = attach(self->fd, self->importer);
	publish(exporter, self->fd);
	publish(exporter, self->fd);
	check_told(importer, false, 0, TAG, PH);
	check_told(importer, true, 0, XTAG, PH);

	/* Not the same again, either */
	ASSERT_EQ(-EBUSY, __vfio_pci_dma_buf_tph(exporter->device, self->fd,
						 ST | ST_EXT, TAG, XTAG, PH));
	ASSERT_EQ(-EBUSY, __vfio_pci_dma_buf_tph(exporter->device, self->fd, 0,
						 0, 0, 0));
	/* What is malformed is malformed all the same. */
	ASSERT_EQ(-EINVAL, __vfio_pci_dma_buf_tph(exporter->device, self->fd, 0,
						  0, 0, 4));
	check_told(importer, true, 0, XTAG, PH);

	/* The last one counts. */
	other = attach(self->fd, self->dropped);
	close(importer);
	vfio_pci_dma_buf_tph(exporter->device, self->fd, 0, 0, 0, 0);
	check_told(other, false, -EOPNOTSUPP, 0, 0);
	/* "Nothing" is an answer, too. */
	ASSERT_EQ(-EBUSY, __vfio_pci_dma_buf_tph(exporter->device, self->fd, ST,
						 TAG, 0, 0));
	close(other);
	publish(exporter, self->fd);
}

/* Who is attached is told the same while access is revoked. */
TEST_F_TIMEOUT(kernel, revoked, 120)
{
	struct peer *exporter = &self->exporter;
	int importer, late;

	publish(exporter, self->fd);
	importer = attach(self->fd, self->importer);

	vfio_pci_cmd_clear(exporter->device, PCI_COMMAND_MEMORY);
	check_told(importer, false, 0, TAG, PH);
	check_told(importer, true, 0, XTAG, PH);
	ASSERT_EQ(-ENODEV, __pci_sim_dmabuf_write(importer, PATTERN, 0, 64));
	late = pci_sim_dmabuf_open();
	ASSERT_EQ(-ENODEV, __pci_sim_dmabuf_attach(late, self->fd,
						   self->importer));

	vfio_pci_cmd_set(exporter->device, PCI_COMMAND_MEMORY);
	check_told(importer, false, 0, TAG, PH);
	pci_sim_dmabuf_write(importer, PATTERN, 0, 64);
	ASSERT_EQ(PATTERN, buf_data(exporter)[0]);

	peer_close(exporter);
	check_told(importer, false, -ENODEV, 0, 0);
	check_told(importer, true, -ENODEV, 0, 0);
	ASSERT_EQ(-ENODEV, __pci_sim_dmabuf_attach(late, self->fd,
						   self->importer));
	close(late);
	close(importer);
}

static void check_write(struct pci_sim_trace *trace, int importer,
			const char *bdf, struct peer *exporter, u64 pattern,
			u8 fate, u8 flags, u8 ph, u16 st)
{
	const struct pci_sim_record *record;

	pci_sim_trace_start(trace);
	pci_sim_dmabuf_write(importer, pattern, 0, 64);
	pci_sim_trace_stop(trace);

	VFIO_ASSERT_EQ(buf_data(exporter)[0], pattern);
	record = pci_sim_trace_first_write(trace, bdf);
	VFIO_ASSERT_NOT_NULL(record);
	VFIO_ASSERT_EQ(record->fate, fate);
	VFIO_ASSERT_EQ(record->flags, flags);
	VFIO_ASSERT_EQ(record->ph, ph);
	VFIO_ASSERT_EQ(record->st, st);
	VFIO_ASSERT_TRUE(pci_sim_record_target(record, exporter->bdf));
	VFIO_ASSERT_EQ(record->phys, buf_address(exporter));
}

/*
 * An importer finds the BAR through the IOMMU, and sends the hints. Unless each
 * mapping is freed kmemleak will tell.
 */
TEST_F_TIMEOUT(kernel, importer, 120)
{
	struct peer *exporter = &self->exporter;
	int importer, dropped, i;

	publish(exporter, self->fd);
	importer = attach(self->fd, self->importer);
	dropped = attach(self->fd, self->dropped);

	for (i = 0; i < 16; i++) {
		check_write(self->trace, importer, self->importer, exporter,
			    PATTERN + 2 * i, PCI_SIM_FATE_OK,
			    PCI_SIM_RECORD_PEER | PCI_SIM_RECORD_TH |
			    PCI_SIM_RECORD_PREFIX, PH, XTAG);
		/* The root complex forwards the data alone. */
		check_write(self->trace, dropped, self->dropped, exporter,
			    PATTERN + 2 * i + 1, PCI_SIM_FATE_HINTS_DROPPED,
			    PCI_SIM_RECORD_PEER, 0, 0);
	}
	close(dropped);
	close(importer);

	/* 8-bit tags are no substitute for one that sends 16-bit ones. */
	vfio_pci_dma_buf_tph(exporter->device, self->fd, ST, TAG, 0, PH);
	importer = attach(self->fd, self->importer);
	check_write(self->trace, importer, self->importer, exporter, 1,
		    PCI_SIM_FATE_OK, PCI_SIM_RECORD_PEER | PCI_SIM_RECORD_TH |
		    PCI_SIM_RECORD_PREFIX, 0, 0);

	/* The endpoint can be taken away from under it. */
	sysfs_driver_unbind(self->importer);
	ASSERT_EQ(-ENOTCONN, __pci_sim_dmabuf_write(importer, 1, 0, 64));
	publish(exporter, self->fd);
	close(importer);
}

/* Two ranges are one behind the other for the importer, and none is lost. */
TEST_F_TIMEOUT(kernel, ranges, 120)
{
	const struct vfio_region_dma_range ranges[] = {
		{ .offset = BUF_OFFSET + BUF_SIZE, .length = BUF_SIZE },
		{ .offset = BUF_OFFSET, .length = BUF_SIZE },
	};
	u64 *first = buf_data(&self->exporter);
	u64 *second = first + BUF_SIZE / sizeof(*first);
	int importer, fd;

	fd = __vfio_pci_dma_buf_export_ranges(self->exporter.device, BUF_BAR,
					      ranges, ARRAY_SIZE(ranges));
	ASSERT_GE(fd, 0);
	importer = attach(fd, self->importer);

	*first = 0;
	*second = 0;
	ASSERT_EQ(0, __pci_sim_dmabuf_write(importer, PATTERN, 0, 64));
	ASSERT_EQ(PATTERN, *second);
	ASSERT_EQ(0, *first);
	ASSERT_EQ(0, __pci_sim_dmabuf_write(importer, ~PATTERN, BUF_SIZE, 64));
	ASSERT_EQ(~PATTERN, *first);
	ASSERT_EQ(PATTERN, *second);

	close(importer);
	close(fd);
}

/* Importers are told both tags of a CPU, and send the one of their kind. */
static void check_memory(struct pci_sim_trace *trace, const char *bdf, int fd,
			 const u64 *data, u16 st, bool ext)
{
	const struct pci_sim_record *record;
	int importer = attach(fd, bdf);
	static u64 pattern = PATTERN;
	u16 st_ext = st + 0xa00;

	check_told(importer, false, 0, st, 0);
	check_told(importer, true, 0, st_ext, 0);

	pci_sim_trace_start(trace);
	pci_sim_dmabuf_write(importer, ++pattern, 0, 64);
	pci_sim_trace_stop(trace);

	VFIO_ASSERT_EQ(*data, pattern);
	record = pci_sim_trace_first_write(trace, bdf);
	VFIO_ASSERT_NOT_NULL(record);
	VFIO_ASSERT_EQ(record->fate, PCI_SIM_FATE_OK);
	VFIO_ASSERT_EQ(record->flags, PCI_SIM_RECORD_TH |
		       (ext ? PCI_SIM_RECORD_PREFIX : 0));
	VFIO_ASSERT_EQ(record->st, ext ? st_ext : st);
	close(importer);
}

/* The tag of a CPU depends on the host bridge that the requester is below. */
TEST_F_TIMEOUT(single, cpu_memory, 120)
{
	int nr_cpus = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? 2 : 1;
	struct vfio_device_feature_tph_resolve r, of_cpu;
	const char *reason = setup_tph(3);
	char importers[2][PCI_SIM_BDF_SIZE];
	struct pci_sim_trace *trace;
	struct pci_sim *sim;
	struct iommu *iommu;
	struct peer peer;
	int cpu, fd, i;
	u16 last = 0;
	u64 *data;

	if (!reason && !pci_sim_dmabuf_available())
		reason = "pci_sim_dmabuf is not available";
	if (reason)
		SKIP(return, "%s", reason);
	if (nr_cpus < 2)
		TH_LOG("Only CPU 0 is tested");

	sim = pci_sim_init(SIM_NAME);
	pci_sim_add(sim, "hb0/rp0/ep0", NULL);
	pci_sim_add(sim, "hb0/rp1/ep0", "tph_loc=0");
	pci_sim_add(sim, "hb1/rp0/ep0", "tph_ext=1");
	pci_sim_set(sim, "hb0", "acpi_path", "\\_SB.PSM0");
	pci_sim_set(sim, "hb1", "acpi_path", "\\_SB.PSM1");
	pci_sim_set_live(sim, true);
	trace = pci_sim_trace_init();

	for (i = 0; i < 2; i++) {
		pci_sim_get_bdf(sim, i ? "hb1/rp0/ep0" : "hb0/rp0/ep0",
				importers[i]);
		sysfs_driver_bind(importers[i], PCI_SIM_DMABUF_DRIVER);
	}
	iommu = iommu_init(MODE_IOMMUFD);
	importer_open(sim, iommu, &peer, "hb0/rp1/ep0");

	for (cpu = 0; cpu < nr_cpus; cpu++) {
		fd = pci_sim_dmabuf_export(SZ_4K, cpu);
		data = mmap(NULL, SZ_4K, PROT_READ, MAP_SHARED, fd, 0);
		ASSERT_NE(MAP_FAILED, data);

		/* A user of vfio is told what it is told about the CPU. */
		ASSERT_EQ(0, __vfio_pci_tph_resolve(peer.device, SRC_CPU_V, cpu,
						    &of_cpu));
		ASSERT_EQ(VALID_ST, of_cpu.valid);
		ASSERT_NE(last, of_cpu.st);
		last = of_cpu.st;
		ASSERT_EQ(0, resolve(&peer, 0, fd, &r));
		ASSERT_EQ(VALID_PH | VALID_ST, r.valid);
		ASSERT_EQ(of_cpu.st, r.st);

		for (i = 0; i < 2; i++)
			check_memory(trace, importers[i], fd, data,
				     of_cpu.st + 0x20 * i, i);

		ASSERT_EQ(0, munmap(data, SZ_4K));
		close(fd);
	}

	peer_close(&peer);
	iommu_cleanup(iommu);
	pci_sim_trace_cleanup(trace);
	pci_sim_cleanup(sim);
}

/* --- Calls that fail --- */

struct fail_args {
	struct peer *peer;
	int importer;
	int fd;
	int memory;
	/* What RESOLVE tells about @memory */
	u8 valid;
};

static int fail_export(struct fail_args *args)
{
	int fd = __vfio_pci_dma_buf_export(args->peer->device, BUF_BAR,
					   BUF_OFFSET, BUF_SIZE);

	return fd < 0 ? fd : close(fd);
}

static int fail_publish(struct fail_args *args)
{
	return __vfio_pci_dma_buf_tph(args->peer->device, args->fd, ST, TAG, 0,
				      PH);
}

static int fail_resolve(struct fail_args *args)
{
	struct vfio_device_feature_tph_resolve r;
	int ret = resolve(args->peer, 0, args->memory, &r);

	/* A fault does not make hints disappear. */
	if (!ret)
		VFIO_ASSERT_EQ(r.valid, args->valid);

	return ret;
}

static int fail_write(struct fail_args *args)
{
	return __pci_sim_dmabuf_write(args->importer, PATTERN, 0, 64);
}

static int fail_st(struct fail_args *args)
{
	u32 dests[] = { args->memory, args->fd };
	int ret;

	ret = __vfio_pci_tph_st(args->peer->device, SRC_DMABUF, 0,
				ARRAY_SIZE(dests), dests);

	/* The second one is what has failed then. */
	if (ret == 1)
		return -ENOMEM;

	return ret == ARRAY_SIZE(dests) ? 0 : ret;
}

/*
 * Make each of the allocations and user copies of a step fail in turn. What that
 * leaves behind kmemleak, and the next try, will tell. Return how often the step
 * has failed.
 */
static int fail_each(int fd, int (*step)(struct fail_args *),
		     struct fail_args *args)
{
	int ret, nth, failed = 0;
	bool again = true;

	for (nth = 1; again; nth++) {
		fail_nth_begin(fd, nth);
		ret = step(args);
		again = fail_nth_end(fd);
		VFIO_ASSERT_TRUE(!ret || ret == -ENOMEM || ret == -EFAULT,
				 "Fault %d: %d\n", nth, ret);
		failed += ret < 0;
	}
	VFIO_ASSERT_EQ(ret, 0);

	return failed;
}

TEST_F_TIMEOUT(kernel, fail_nth, 300)
{
	struct fail_args args = {
		.peer = &self->exporter,
		.importer = attach(self->fd, self->importer),
		.fd = self->fd,
		.memory = pci_sim_dmabuf_export(SZ_4K, 0),
	};
	int fd = fail_nth_open();

	if (fd < 0)
		SKIP(return, "Needs CONFIG_FAULT_INJECTION_DEBUG_FS");

	vfio_pci_tph_opt_in(self->exporter.device);
	/* It allocates nothing; only what it reads can fail. */
	fail_each(fd, fail_publish, &args);
	EXPECT_GT(fail_each(fd, fail_export, &args), 0);
	EXPECT_GT(fail_each(fd, fail_resolve, &args), 0);
	EXPECT_GT(fail_each(fd, fail_write, &args), 0);
	close(fd);
	close(args.importer);
	close(args.memory);
}

TEST_F_TIMEOUT(peers, fail_nth, 300)
{
	struct fail_args args = { .peer = &self->table };
	int fd = fail_nth_open();

	if (fd < 0)
		SKIP(return, "Needs CONFIG_FAULT_INJECTION_DEBUG_FS");

	publish(&self->exporter, self->fd);
	args.fd = self->fd;
	args.memory = export_buf(&self->exporter);
	publish(&self->exporter, args.memory);
	args.valid = VALID_PH;
	if (told(args.peer, variant->level))
		args.valid |= VALID_ST;
	EXPECT_GT(fail_each(fd, fail_resolve, &args), 0);
	if (variant->level >= 1)
		EXPECT_GT(fail_each(fd, fail_st, &args), 0);
	close(fd);

	/* Nothing is attached any more. */
	publish(&self->exporter, self->fd);
	publish(&self->exporter, args.memory);
	close(args.memory);
}

/* --- All at once --- */

struct stress {
	struct peer *exporter;
	struct peer *table;
	struct peer *bare;
	struct iommu *iommu;
	struct pci_sim *sim;
	const char *importer;
	int fd;
	u64 end;
	/* What the threads have done, to see that they have done something */
	unsigned long sets, busy, asked, refused, closed;
};

/* Two tuples of which nobody may see a mixture */
static void *stress_set(void *arg)
{
	struct stress *s = arg;
	int i, ret;

	for (i = 0; vfio_pci_tph_stress_on(s->end); i++) {
		u8 n = i % 2 + 1;

		ret = __vfio_pci_dma_buf_tph(s->exporter->device, s->fd,
					     ST | ST_EXT, n * 0x11, n * 0x1111,
					     n);
		VFIO_ASSERT_TRUE(ret == 0 || ret == -EBUSY, "%d\n", ret);
		s->sets += !ret;
		s->busy += ret == -EBUSY;
	}

	return NULL;
}

static void check_tuple(bool ext, u16 st, u8 ph)
{
	VFIO_ASSERT_TRUE(ph == 1 || ph == 2, "PH %u\n", ph);
	VFIO_ASSERT_EQ(st, ph * (ext ? 0x1111 : 0x11));
}

static void *stress_resolve(void *arg)
{
	struct vfio_device_feature_tph_resolve r;
	struct stress *s = arg;
	int i, ret;
	u16 st;

	for (i = 0; vfio_pci_tph_stress_on(s->end); i++) {
		bool ext = i % 2;

		ret = resolve(s->bare, ext ? EXTENDED : 0, s->fd, &r);
		VFIO_ASSERT_TRUE(ret == 0 || ret == -ENODEV, "%d\n", ret);
		if (!ret) {
			VFIO_ASSERT_EQ(r.valid, VALID_PH | VALID_ST);
			check_tuple(ext, r.st, r.ph);
		}

		/* No requests with 16-bit tags are enabled. */
		ret = st_one(s->table, ext ? EXTENDED : 0, s->fd);
		VFIO_ASSERT_TRUE(ret == 1 || ret == -ENODEV, "%d\n", ret);
		if (ret == 1) {
			st = hw_entry(s->sim, s->table, 0);
			VFIO_ASSERT_TRUE(ext ? !st : st == 0x11 || st == 0x22,
					 "Entry %#x\n", st);
		}
	}

	return NULL;
}

/* What an importer is told first it is told to the end. */
static void *stress_attach(void *arg)
{
	u16 st = 0, st_ext = 0;
	struct stress *s = arg;
	int importer, ret;
	u8 ph = 0, again = 0;

	while (vfio_pci_tph_stress_on(s->end)) {
		importer = pci_sim_dmabuf_open();
		ret = __pci_sim_dmabuf_attach(importer, s->fd, s->importer);
		VFIO_ASSERT_TRUE(ret == 0 || ret == -ENODEV, "%d\n", ret);
		if (!ret) {
			ret = __pci_sim_dmabuf_get_tph(importer, false, &st,
						       &ph);
			VFIO_ASSERT_EQ(ret, 0);
			check_tuple(false, st, ph);
			ret = __pci_sim_dmabuf_write(importer, 1, 0, 64);
			/* The device may be turned off while it is written */
			VFIO_ASSERT_TRUE(ret == 0 || ret == -ENODEV ||
					 ret == -EIO, "%d\n", ret);
			ret = __pci_sim_dmabuf_get_tph(importer, true, &st_ext,
						       &again);
			VFIO_ASSERT_EQ(ret, 0);
			check_tuple(true, st_ext, again);
			VFIO_ASSERT_EQ(again, ph);
			s->asked++;
		} else {
			s->refused++;
		}
		close(importer);
	}

	return NULL;
}

static void *stress_revoke(void *arg)
{
	struct stress *s = arg;
	int i;

	for (i = 0; vfio_pci_tph_stress_on(s->end); i++) {
		vfio_pci_cmd_clear(s->exporter->device, PCI_COMMAND_MEMORY);
		if (i % 4 == 3)
			vfio_pci_device_reset(s->exporter->device);
		vfio_pci_cmd_set(s->exporter->device, PCI_COMMAND_MEMORY);
		usleep(1000);
	}

	return NULL;
}

/* A device that comes and goes, while others have its dma-buf */
static void *stress_close(void *arg)
{
	struct vfio_device_feature_tph_resolve r;
	struct stress *s = arg;
	struct peer peer;
	int fd, ret, importer;

	while (vfio_pci_tph_stress_on(s->end)) {
		peer_open(s->sim, s->iommu, &peer, "hb0/rp3/ep0");
		fd = export_buf(&peer);
		vfio_pci_dma_buf_tph(peer.device, fd, ST, 0x11, 0, 1);
		importer = attach(fd, s->importer);
		ret = resolve(s->bare, 0, fd, &r);
		VFIO_ASSERT_EQ(ret, 0);
		check_tuple(false, r.st, r.ph);
		peer_close(&peer);
		ret = resolve(s->bare, 0, fd, &r);
		VFIO_ASSERT_EQ(ret, -ENODEV);
		check_told(importer, false, -ENODEV, 0, 0);
		close(importer);
		close(fd);
		s->closed++;
	}

	return NULL;
}

TEST_F_TIMEOUT(kernel, stress, 600)
{
	static void *(* const threads[])(void *) = {
		stress_set, stress_resolve, stress_attach, stress_revoke,
		stress_close,
	};
	pthread_t ids[ARRAY_SIZE(threads)];
	struct iommu *iommus[3];
	struct peer table, bare;
	struct stress s = {
		.exporter = &self->exporter,
		.table = &table,
		.bare = &bare,
		.sim = self->sim,
		.importer = self->importer,
	};
	const char *reason;
	int i;

	/* Another level, and two users of vfio more */
	close(self->fd);
	peer_close(&self->exporter);
	iommu_cleanup(self->iommu);
	pci_sim_set_live(self->sim, false);
	reason = vfio_pci_tph_set_level(3);
	ASSERT_EQ(NULL, reason);
	pci_sim_add(self->sim, "hb0/rp3/ep0", "tph_completer=3");
	pci_sim_add(self->sim, "hb0/rp4/ep0", "tph_ext=1");
	pci_sim_add(self->sim, "hb0/rp5/ep0", "tph_ext=1 tph_loc=0");
	pci_sim_set_live(self->sim, true);
	pci_sim_get_bdf(self->sim, "hb0/rp1/ep0", self->importer);
	sysfs_driver_bind(self->importer, PCI_SIM_DMABUF_DRIVER);

	self->iommu = iommu_init(MODE_IOMMUFD);
	peer_open(self->sim, self->iommu, &self->exporter, "hb0/rp0/ep0");
	for (i = 0; i < ARRAY_SIZE(iommus); i++)
		iommus[i] = iommu_init(MODE_IOMMUFD);
	peer_open(self->sim, iommus[0], &table, "hb0/rp4/ep0");
	peer_open(self->sim, iommus[1], &bare, "hb0/rp5/ep0");
	vfio_pci_tph_opt_in(table.device);
	vfio_pci_tph_opt_in(bare.device);
	self->fd = export_buf(&self->exporter);
	vfio_pci_dma_buf_tph(self->exporter.device, self->fd, ST | ST_EXT, 0x11,
			     0x1111, 1);
	s.iommu = iommus[2];
	s.fd = self->fd;
	s.end = vfio_pci_tph_stress_end(1);

	for (i = 0; i < ARRAY_SIZE(threads); i++)
		ASSERT_EQ(0, pthread_create(&ids[i], NULL, threads[i], &s));
	for (i = 0; i < ARRAY_SIZE(threads); i++)
		ASSERT_EQ(0, pthread_join(ids[i], NULL));

	TH_LOG("set %lu, busy %lu, asked %lu, refused %lu, closed %lu", s.sets,
	       s.busy, s.asked, s.refused, s.closed);
	EXPECT_GT(s.sets, 0);
	EXPECT_GT(s.busy, 0);
	EXPECT_GT(s.asked, 0);
	EXPECT_GT(s.refused, 0);
	EXPECT_GT(s.closed, 0);

	peer_close(&table);
	peer_close(&bare);
	for (i = 0; i < ARRAY_SIZE(iommus); i++)
		iommu_cleanup(iommus[i]);
}

int main(int argc, char *argv[])
{
	int ret = test_harness_run(argc, argv);

	if (pci_sim_available())
		pci_sim_remove(SIM_NAME);

	return ret;
}
