/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_VFIO_PCI_TPH_H
#define SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_VFIO_PCI_TPH_H

#include <linux/vfio.h>

#include <libvfio/vfio_pci_device.h>

#define PCI_TPH_CTRL_VALUE(_mode, _req) ((_mode) | (_req) << 8)

/*
 * Opt in to TPH: from here on the TPH capability of @device shows what the
 * user may choose, and the control register takes it.
 */
int __vfio_pci_tph_opt_in(struct vfio_pci_device *device);
void vfio_pci_tph_opt_in(struct vfio_pci_device *device);

/* Return VFIO_DEVICE_TPH_CAP_* */
u32 vfio_pci_tph_flags(struct vfio_pci_device *device);

/*
 * Program @count entries of the ST table from @start on. @flags say what @dests
 * are. __vfio_pci_tph_st() returns the number of entries done, or -errno if the
 * first failed; vfio_pci_tph_st() asserts that all are done.
 */
int __vfio_pci_tph_st(struct vfio_pci_device *device, u32 flags, u16 start,
		      u16 count, const u32 *dests);
void vfio_pci_tph_st(struct vfio_pci_device *device, u32 flags, u16 start,
		     u16 count, const u32 *dests);

/*
 * Ask what belongs to @src. Returns 0 or -errno, and in any case what the kernel
 * left in @resolve, whose outputs are preset to PCI_TPH_UNTOUCHED.
 */
#define PCI_TPH_UNTOUCHED 0xa5
int __vfio_pci_tph_resolve(struct vfio_pci_device *device, u32 flags, u32 src,
			   struct vfio_device_feature_tph_resolve *resolve);

/*
 * Publish the hints of requests to a dma-buf of @device. @flags are
 * VFIO_DMA_BUF_TPH_*.
 */
int __vfio_pci_dma_buf_tph(struct vfio_pci_device *device, int dmabuf_fd,
			   u32 flags, u8 st, u16 st_ext, u8 ph);
void vfio_pci_dma_buf_tph(struct vfio_pci_device *device, int dmabuf_fd,
			  u32 flags, u8 st, u16 st_ext, u8 ph);

/* The registers as the user sees them */
u32 vfio_pci_tph_cap(struct vfio_pci_device *device);
u32 vfio_pci_tph_ctrl(struct vfio_pci_device *device);

/*
 * Choose ST mode PCI_TPH_ST_*_MODE and request type PCI_TPH_REQ_*, and assert
 * that the register took both.
 */
void vfio_pci_tph_enable(struct vfio_pci_device *device, u8 mode, u8 req);
void vfio_pci_tph_disable(struct vfio_pci_device *device);

/* Return whether the kernel has been told not to use TPH, by pci=notph. */
bool vfio_pci_tph_turned_off(void);

/*
 * The level, which is a parameter of vfio_pci_core. Without the parameter it is
 * 0, what is granted then, and without the module -1.
 */
#define VFIO_PCI_TPH_LEVEL "/sys/module/vfio_pci_core/parameters/tph"
int vfio_pci_tph_level(void);

/*
 * Choose the level, for which vfio-pci is loaded anew if it has another one.
 * Returns NULL, or the reason why it cannot be had.
 */
const char *vfio_pci_tph_set_level(int level);

/* Load vfio-pci with a value of the parameter, and unload it: 0, or not */
int vfio_pci_load(const char *level);
int vfio_pci_unload(void);

/*
 * What looks for races goes on for VFIO_TPH_STRESS_SECONDS, or for a minute if the
 * environment does not say: when one of @parts parts ends that begins now, and
 * whether that is yet to come.
 */
u64 vfio_pci_tph_stress_end(u32 parts);
bool vfio_pci_tph_stress_on(u64 end);

#endif /* SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_VFIO_PCI_TPH_H */
