/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_PCI_SIM_NONE_H
#define SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_PCI_SIM_NONE_H

#include <linux/ioctl.h>
#include <linux/types.h>

/*
 * The kernel that this is built for does not have <linux/pci_sim.h>. What the
 * library and the tests use of it is declared here, so that they compile, and
 * run on real devices. Nothing of it is used, as pci_sim_available() is false.
 */
#define PCI_SIM_NONE

#define PCI_SIM_VENDOR_ID		0xfffe
#define PCI_SIM_DEVICE_ID_ENDPOINT	0x0004
#define PCI_SIM_DESC_BAR		0
#define PCI_SIM_MSIX_BAR		2

#define PCI_SIM_VSEC_ID			0
#define PCI_SIM_VSEC_LEN		0
#define PCI_SIM_ENGINE_CTRL		0
#define  PCI_SIM_ENGINE_GO		0
#define PCI_SIM_ENGINE_STATUS		0
#define  PCI_SIM_ENGINE_BUSY		0
#define  PCI_SIM_ENGINE_ERROR		0

enum pci_sim_op {
	PCI_SIM_OP_NOP,
	PCI_SIM_OP_COPY,
	PCI_SIM_OP_WRITE,
};

struct pci_sim_desc {
	__u32 op;
	__u32 flags;
#define PCI_SIM_DESC_IRQ		0
	__u64 src;
	__u64 dst;
	__u32 len;
	__u32 count;
	__u16 vector;
	__u16 st;
	__u8 ph;
};

enum pci_sim_record_type {
	PCI_SIM_CFG_READ = 1,
	PCI_SIM_CFG_WRITE,
	PCI_SIM_TLP_MRD,
	PCI_SIM_TLP_MWR,
	PCI_SIM_RESET,
	PCI_SIM_ERROR,
};

enum pci_sim_fate {
	PCI_SIM_FATE_OK,
	PCI_SIM_FATE_HINTS_DROPPED,
	PCI_SIM_FATE_BLOCKED,
};

struct pci_sim_record {
	__u32 lost;
	__u8 type;
	__u8 fate;
	__u8 flags;
#define PCI_SIM_RECORD_TH		0
#define PCI_SIM_RECORD_PREFIX		0
#define PCI_SIM_RECORD_PEER		0
	__u8 ph;
	__u16 domain;
	__u16 bdf;
	__u16 st;
	__u16 target;
	__aligned_u64 addr;
	__aligned_u64 phys;
	__u32 len;
	__u32 value;
};

struct pci_sim_dmabuf_export {
	__u32 size;
	__u32 cpu;
};

struct pci_sim_dmabuf_attach {
	__s32 fd;
	__u16 domain;
	__u16 bdf;
};

struct pci_sim_dmabuf_tph {
	__u32 extended;
	__u16 st;
	__u8 ph;
};

struct pci_sim_dmabuf_write {
	__aligned_u64 pattern;
	__u32 offset;
	__u32 len;
};

#define PCI_SIM_DMABUF_EXPORT		_IO(0, 0)
#define PCI_SIM_DMABUF_ATTACH		_IO(0, 1)
#define PCI_SIM_DMABUF_GET_TPH		_IO(0, 2)
#define PCI_SIM_DMABUF_WRITE		_IO(0, 3)

#endif /* SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_PCI_SIM_NONE_H */
