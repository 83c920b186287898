// SPDX-License-Identifier: GPL-2.0-only
/*
 * Print what a user sees in the config space of simulated endpoints, and what
 * writes to it do, for comparison with another kernel.
 *
 * The user does not opt in to anything. All of it is deterministic, so two
 * kernels that give their users the same print the same.
 */
#include <stdio.h>
#include <string.h>

#include <linux/bits.h>
#include <linux/pci_regs.h>
#include <linux/sizes.h>

#include <libvfio.h>

#define SIM_NAME	"image"
#define SIM_EP		"hb0/rp0/ep0"

static const char * const shapes[] = {
	"tph_loc=0 tph_modes=7 tph_ext=1",
	"tph_loc=1 tph_modes=7 tph_ext=1 tph_st_size=15",
	"tph_loc=1 tph_modes=1 tph_st_size=63",
	"tph_loc=2 tph_modes=7 tph_ext=1 tph_st_size=15",
};

struct endpoint {
	char bdf[PCI_SIM_BDF_SIZE];
	struct iommu *iommu;
	struct vfio_pci_device *device;
};

static u32 user_read(struct endpoint *ep, u16 pos)
{
	return vfio_pci_config_readl(ep->device, pos);
}

static u32 hw_read(struct endpoint *ep, u16 pos)
{
	u32 value;

	sysfs_config_access(ep->bdf, false, pos, sizeof(value), &value);

	return value;
}

static void print_image(struct endpoint *ep)
{
	u32 user, hw;
	u16 pos;

	for (pos = 0; pos < PCI_CFG_SPACE_EXP_SIZE; pos += 4) {
		user = user_read(ep, pos);
		hw = hw_read(ep, pos);
		if (user || hw)
			printf("%03x: user %08x hardware %08x\n", pos, user, hw);
	}
}

/* Write the inverse of what is there, see what came of it, and write it back. */
static void print_write(struct endpoint *ep, u16 pos, int width)
{
	u16 dword = pos & ~3;
	u32 user, hw, value;

	user = user_read(ep, dword);
	hw = hw_read(ep, dword);
	value = ~(user >> (pos - dword) * 8);

	vfio_pci_config_access(ep->device, true, pos, width, &value);
	if (user_read(ep, dword) != user || hw_read(ep, dword) != hw)
		printf("%03x: written %0*x: user %08x hardware %08x\n", pos,
		       width * 2, value & (u32)(BIT_ULL(width * 8) - 1),
		       user_read(ep, dword), hw_read(ep, dword));

	value = user >> (pos - dword) * 8;
	vfio_pci_config_access(ep->device, true, pos, width, &value);
}

static void print_shape(const char *shape)
{
	struct endpoint ep = {};
	struct pci_sim *sim;
	int width, pos;

	sim = pci_sim_init(SIM_NAME);
	pci_sim_add(sim, SIM_EP, shape);
	pci_sim_set_live(sim, true);
	pci_sim_bind_vfio(sim, SIM_EP, ep.bdf);
	ep.iommu = iommu_init(default_iommu_mode);
	ep.device = vfio_pci_device_init(ep.bdf, ep.iommu);

	printf("%s\n", shape);
	print_image(&ep);
	for (width = 1; width <= 4; width *= 2)
		for (pos = 0; pos < PCI_CFG_SPACE_EXP_SIZE; pos += width)
			print_write(&ep, pos, width);
	printf("%s, after the writes\n", shape);
	print_image(&ep);

	vfio_pci_device_cleanup(ep.device);
	iommu_cleanup(ep.iommu);
	pci_sim_cleanup(sim);
}

int main(void)
{
	size_t i;

	if (!pci_sim_available()) {
		fprintf(stderr, "pci_sim is not available\n");
		return KSFT_SKIP;
	}

	for (i = 0; i < ARRAY_SIZE(shapes); i++)
		print_shape(shapes[i]);

	return 0;
}
