// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdint.h>

#include <linux/pci_regs.h>
#include <linux/sizes.h>

#include <libvfio.h>

/*
 * The engine is software: these keep a test short on an emulated machine, where
 * the hardware would take any value.
 */
#define PCI_SIM_MAX_MEMCPY_SIZE		SZ_16K
#define PCI_SIM_MAX_MEMCPY_COUNT	64

static int pci_sim_probe(struct vfio_pci_device *device)
{
	if (!vfio_pci_device_match(device, PCI_SIM_VENDOR_ID,
				   PCI_SIM_DEVICE_ID_ENDPOINT))
		return -EINVAL;

	VFIO_ASSERT_NOT_NULL(device->bars[PCI_SIM_DESC_BAR].vaddr);

	return 0;
}

static void pci_sim_init_device(struct vfio_pci_device *device)
{
	vfio_pci_config_writew(device, PCI_COMMAND,
			       PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |
			       PCI_COMMAND_INTX_DISABLE);

	if (device->msix_info.count)
		vfio_pci_msix_enable(device, 0, device->msix_info.count);
	else
		vfio_pci_msi_enable(device, 0, 1);

	device->driver.msi = 0;
	device->driver.max_memcpy_size = PCI_SIM_MAX_MEMCPY_SIZE;
	device->driver.max_memcpy_count = PCI_SIM_MAX_MEMCPY_COUNT;
}

static void pci_sim_remove_device(struct vfio_pci_device *device)
{
	if (device->msix_info.count)
		vfio_pci_msix_disable(device);
	else
		vfio_pci_msi_disable(device);
	vfio_pci_cmd_clear(device, PCI_COMMAND_MASTER);
}

static void pci_sim_memcpy_start(struct vfio_pci_device *device,
				 iova_t src, iova_t dst, u64 size, u64 count)
{
	struct pci_sim_desc desc = {
		.op = PCI_SIM_OP_COPY,
		.src = src,
		.dst = dst,
		.len = size,
		.count = count,
	};

	pci_sim_engine_start(device, &desc);
}

static int pci_sim_memcpy_wait(struct vfio_pci_device *device)
{
	return pci_sim_engine_wait(device);
}

static void pci_sim_send_msi(struct vfio_pci_device *device)
{
	struct pci_sim_desc desc = {
		.op = PCI_SIM_OP_NOP,
		.flags = PCI_SIM_DESC_IRQ,
		.vector = device->driver.msi,
	};

	VFIO_ASSERT_EQ(pci_sim_engine_run(device, &desc), 0);
}

struct vfio_pci_driver_ops pci_sim_ops = {
	.name = "pci_sim",
	.probe = pci_sim_probe,
	.init = pci_sim_init_device,
	.remove = pci_sim_remove_device,
	.memcpy_start = pci_sim_memcpy_start,
	.memcpy_wait = pci_sim_memcpy_wait,
	.send_msi = pci_sim_send_msi,
};
