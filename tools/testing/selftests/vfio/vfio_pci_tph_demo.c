// SPDX-License-Identifier: GPL-2.0-only
/*
 * How a user-space driver gives the device's writes a place in the cache.
 *
 * vfio_pci_tph_opt_in(), tph_on() and place() are all that a driver needs: opt
 * in, choose a mode, and name the CPU that will use the data of each interrupt
 * vector. publish() and aim() are the same for data that goes to another
 * device. What they call is thin: lib/vfio_pci_tph.c makes the ioctls, and
 * Documentation/userspace-api/vfio-tph.rst does without it. The rest builds
 * simulated devices (pci-sim), so this runs on any machine, and shows what
 * happens on the link. All values that are printed were read back, or come from
 * the trace.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <sys/mman.h>

#include <linux/bitfield.h>
#include <linux/pci_regs.h>
#include <linux/sizes.h>
#include <linux/vfio.h>

#include <libvfio.h>

#include "kselftest.h"

#define PORT		"hb0/rp0"
#define ENDPOINT	"hb0/rp0/ep0"
#define NR_ENTRIES	8

/* Two endpoints below a switch that sends their requests to each other */
#define PEER_SWITCH	"hb0/rp1/sw0"
#define PEER_A		PEER_SWITCH "/dp0/ep0"
#define PEER_B		PEER_SWITCH "/dp1/ep0"
#define PEER_OFFSET	SZ_4K

static struct pci_sim *sim;
static struct pci_sim_trace *trace;
static char bdf[PCI_SIM_BDF_SIZE];

/* The driver's part: hints are sent, with the entry of the request's vector. */
static void tph_on(struct vfio_pci_device *device)
{
	vfio_pci_tph_enable(device, PCI_TPH_ST_IV_MODE, PCI_TPH_REQ_TPH_ONLY);
}

/* The driver's part: the data of vectors @start... are for @cpus. */
static void place(struct vfio_pci_device *device, u16 start, u16 count,
		  const u32 *cpus)
{
	vfio_pci_tph_st(device, VFIO_DEVICE_TPH_SRC_CPU_VOLATILE, start, count,
			cpus);
}

/* The owner's part: requests to this range of device A shall have these hints. */
static int publish(struct vfio_pci_device *a, u8 st, u8 ph)
{
	int dmabuf = vfio_pci_dma_buf_export(a, PCI_SIM_DESC_BAR, PEER_OFFSET,
					     SZ_4K);

	vfio_pci_dma_buf_tph(a, dmabuf, VFIO_DMA_BUF_TPH_ST, st, 0, ph);

	return dmabuf;
}

/*
 * The driver's part: vector 0 of device B is for that range. Returns the
 * Processing Hint, which is for the device to send.
 */
static u8 aim(struct vfio_pci_device *b, int dmabuf)
{
	struct vfio_device_feature_tph_resolve resolve;

	vfio_pci_tph_st(b, VFIO_DEVICE_TPH_SRC_DMABUF, 0, 1, (u32[]){ dmabuf });
	VFIO_ASSERT_EQ(__vfio_pci_tph_resolve(b, VFIO_DEVICE_TPH_SRC_DMABUF,
					      dmabuf, &resolve), 0);

	return resolve.ph;
}

static void build_topology(void)
{
	char port[PCI_SIM_BDF_SIZE], path[32], completer[8], *driver;

	sim = pci_sim_init("vfio_pci_tph_demo");
	pci_sim_add(sim, ENDPOINT, "tph_loc=1 tph_st_size=15");
	pci_sim_set(sim, "hb0", "acpi_path", "\\_SB.PSM0");
	pci_sim_add(sim, "hb0/rp1", "acs=0");
	pci_sim_add(sim, PEER_SWITCH "/dp0", "acs=0");
	pci_sim_add(sim, PEER_SWITCH "/dp1", "acs=0");
	pci_sim_add(sim, PEER_A, "tph=0 tph_completer=1");
	pci_sim_add(sim, PEER_B, "tph_loc=1 tph_st_size=15");
	pci_sim_set_live(sim, true);
	pci_sim_bind_vfio(sim, ENDPOINT, bdf);
	trace = pci_sim_trace_init();

	pci_sim_get(sim, "hb0", "acpi_path", path, sizeof(path));
	pci_sim_get(sim, PORT, "tph_completer", completer, sizeof(completer));
	pci_sim_get_bdf(sim, PORT, port);
	driver = sysfs_driver_get(bdf);

	printf("Topology\n");
	printf("  host bridge  %s\n", path);
	printf("  Root Port    %s, TPH Completer Supported: %s\n", port,
	       completer);
	printf("  endpoint     %s, driver: %s\n", bdf, driver);
	free(driver);
}

static void print_cap(struct vfio_pci_device *device, const char *when)
{
	u32 cap = vfio_pci_tph_cap(device);
	int entries = 0;

	if (cap & PCI_TPH_CAP_LOC_MASK)
		entries = FIELD_GET(PCI_TPH_CAP_ST_MASK, cap) + 1;

	printf("  %-22s capability 0x%08x control 0x%08x ", when, cap,
	       vfio_pci_tph_ctrl(device));
	printf("modes:%s%s%s, ", cap & PCI_TPH_CAP_ST_NS ? " NS" : "",
	       cap & PCI_TPH_CAP_ST_IV ? " IV" : "",
	       cap & PCI_TPH_CAP_ST_DS ? " DS" : "");
	printf("entries: %d\n", entries);
}

/* Returns whether there is a table for Steering Tags. */
static bool opt_in(struct vfio_pci_device *device)
{
	printf("\nCapability as the user sees it\n");
	print_cap(device, "before the opt-in");
	vfio_pci_tph_opt_in(device);
	print_cap(device, "after the opt-in");
	printf("  tags of CPUs: %s\n", vfio_pci_tph_flags(device) &
	       VFIO_DEVICE_TPH_CAP_CPU ? "known to the platform" : "unknown");

	return vfio_pci_tph_cap(device) & PCI_TPH_CAP_ST_IV;
}

static void print_hardware(void)
{
	u16 entries[NR_ENTRIES];
	int i;

	pci_sim_st_table(sim, ENDPOINT, entries, NR_ENTRIES);
	printf("  control 0x%08x, table", pci_sim_tph_ctrl(sim, ENDPOINT));
	for (i = 0; i < NR_ENTRIES; i++)
		printf(" %04x", entries[i]);
	printf(" ...\n");
}

static void print_config_accesses(void)
{
	size_t i;

	for (i = 0; i < trace->nr; i++) {
		if (!pci_sim_record_config(&trace->records[i], bdf, 0,
					   PCI_CFG_SPACE_EXP_SIZE))
			continue;
		printf("  %s ", bdf);
		pci_sim_record_print(&trace->records[i]);
	}
}

static void program_table(struct vfio_pci_device *device)
{
	const u32 cpus[NR_ENTRIES] = { 0, 1, 0, 1, 1, 1, 0, 0 };
	int i;

	tph_on(device);

	pci_sim_trace_start(trace);
	place(device, 0, NR_ENTRIES, cpus);
	pci_sim_trace_stop(trace);

	printf("\nConfig accesses of a batch for CPUs");
	for (i = 0; i < NR_ENTRIES; i++)
		printf(" %u", cpus[i]);
	printf(", and the hardware after it\n");
	print_config_accesses();
	print_hardware();
}

/* Let the device write 64 bytes of vector 0's, and print the request. */
static void dma_write(struct vfio_pci_device *device, struct dma_region *region,
		      const char *when)
{
	struct pci_sim_desc desc = {
		.op = PCI_SIM_OP_WRITE,
		.dst = region->iova,
		.len = 64,
	};
	const struct pci_sim_record *record;

	pci_sim_trace_start(trace);
	VFIO_ASSERT_EQ(pci_sim_engine_run(device, &desc), 0);
	pci_sim_trace_stop(trace);

	record = pci_sim_trace_first_write(trace, bdf);
	VFIO_ASSERT_NOT_NULL(record);
	printf("  %-32s ", when);
	pci_sim_record_print(record);
}

static void send_requests(struct vfio_pci_device *device)
{
	struct dma_region region = { .iova = 0x3fe00000, .size = SZ_4K };

	region.vaddr = mmap(NULL, region.size, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	VFIO_ASSERT_NE(region.vaddr, MAP_FAILED);
	iommu_map(device->iommu, &region);
	vfio_pci_cmd_set(device, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);

	printf("\nDMA write of vector 0, as the Root Port receives it\n");

	vfio_pci_tph_disable(device);
	dma_write(device, &region, "TPH off");

	tph_on(device);
	dma_write(device, &region, "TPH on, entry 0 is for CPU 0");

	place(device, 0, 1, (u32[]){ 1 });
	dma_write(device, &region, "entry 0 reprogrammed for CPU 1");

	iommu_unmap(device->iommu, &region);
	VFIO_ASSERT_EQ(munmap(region.vaddr, region.size), 0);
}

static struct vfio_pci_device *peer_open(const char *endpoint, char *peer_bdf,
					 struct iommu *iommu)
{
	struct vfio_pci_device *device;

	pci_sim_bind_vfio(sim, endpoint, peer_bdf);
	device = vfio_pci_device_init(peer_bdf, iommu);
	vfio_pci_cmd_set(device, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);

	return device;
}

static void send_to_peer(void)
{
	char bdf_a[PCI_SIM_BDF_SIZE], bdf_b[PCI_SIM_BDF_SIZE];
	struct pci_sim_desc desc = { .op = PCI_SIM_OP_WRITE, .len = 64 };
	const struct pci_sim_record *record;
	struct vfio_pci_device *a, *b;
	struct iommu *iommu;
	int dmabuf;
	u32 bar;

	iommu = iommu_init(default_iommu_mode);
	a = peer_open(PEER_A, bdf_a, iommu);
	b = peer_open(PEER_B, bdf_b, iommu);

	dmabuf = publish(a, 0xf0, 2);
	vfio_pci_tph_opt_in(b);
	tph_on(b);
	desc.ph = aim(b, dmabuf);

	sysfs_config_access(bdf_a, false, PCI_BASE_ADDRESS_0, sizeof(bar), &bar);
	desc.dst = (bar & PCI_BASE_ADDRESS_MEM_MASK) + PEER_OFFSET;
	pci_sim_trace_start(trace);
	VFIO_ASSERT_EQ(pci_sim_engine_run(b, &desc), 0);
	pci_sim_trace_stop(trace);

	record = pci_sim_trace_first_write(trace, bdf_b);
	VFIO_ASSERT_NOT_NULL(record);
	VFIO_ASSERT_TRUE(pci_sim_record_target(record, bdf_a));
	printf("\nDMA write of %s to a BAR of %s, as that one receives it\n",
	       bdf_b, bdf_a);
	printf("  ST 0xf0, PH 2 published          ");
	pci_sim_record_print(record);

	VFIO_ASSERT_EQ(close(dmabuf), 0);
	vfio_pci_device_cleanup(a);
	vfio_pci_device_cleanup(b);
	iommu_cleanup(iommu);
}

int main(void)
{
	struct vfio_pci_device *device;
	struct iommu *iommu;
	bool has_table;

	if (!pci_sim_available())
		ksft_exit_skip("pci_sim is not loaded\n");
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		ksft_exit_skip("Two CPUs are needed to choose between\n");

	build_topology();
	iommu = iommu_init(default_iommu_mode);
	device = vfio_pci_device_init(bdf, iommu);

	has_table = opt_in(device);
	if (has_table) {
		program_table(device);
		send_requests(device);
	}

	vfio_pci_device_cleanup(device);
	iommu_cleanup(iommu);

	printf("\nHardware after close\n");
	print_hardware();

	if (has_table)
		send_to_peer();

	pci_sim_trace_cleanup(trace);
	pci_sim_cleanup(sim);

	if (!has_table)
		ksft_exit_skip("Load vfio_pci_core with tph=1 to see more\n");

	return 0;
}
