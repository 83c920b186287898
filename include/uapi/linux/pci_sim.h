/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * pci-sim, a simulated PCIe hierarchy for tests
 *
 * The registers of the simulated endpoint's DMA engine, the records that the
 * analyzer delivers through /dev/pci-sim, and the ioctls of /dev/pci-sim-dmabuf.
 */
#ifndef _UAPI_LINUX_PCI_SIM_H
#define _UAPI_LINUX_PCI_SIM_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Not assigned by the PCI-SIG, and never seen on a real bus */
#define PCI_SIM_VENDOR_ID		0xfffe
#define PCI_SIM_DEVICE_ID_ROOT_PORT	0x0001
#define PCI_SIM_DEVICE_ID_UPSTREAM	0x0002
#define PCI_SIM_DEVICE_ID_DOWNSTREAM	0x0003
#define PCI_SIM_DEVICE_ID_ENDPOINT	0x0004
#define PCI_SIM_DEVICE_ID_COLLECTOR	0x0005

/*
 * BAR 0 is ordinary memory; the engine reads its descriptor from offset 0
 * when PCI_SIM_ENGINE_GO is written. BAR 2 has the MSI-X table at offset 0
 * and the pending bits at PCI_SIM_PBA_OFFSET.
 */
#define PCI_SIM_DESC_BAR		0
#define PCI_SIM_MSIX_BAR		2
#define PCI_SIM_BAR_SIZE		0x10000
#define PCI_SIM_PBA_OFFSET		0x8000

/* Vendor-Specific Extended Capability that drives the engine */
#define PCI_SIM_VSEC_ID			0x7481
#define PCI_SIM_VSEC_LEN		0x10
#define PCI_SIM_ENGINE_CTRL		0x08	/* write: start, reads as 0 */
#define  PCI_SIM_ENGINE_GO		0x00000001
#define PCI_SIM_ENGINE_STATUS		0x0c	/* read only */
#define  PCI_SIM_ENGINE_BUSY		0x00000001
#define  PCI_SIM_ENGINE_ERROR		0x00000002 /* of the last descriptor */

enum pci_sim_op {
	PCI_SIM_OP_NOP,		/* only the interrupt, if asked */
	PCI_SIM_OP_COPY,	/* read @src, write @dst */
	PCI_SIM_OP_WRITE,	/* write the pattern @src, 8 bytes repeated, to @dst */
};

/**
 * struct pci_sim_desc - what the engine does
 * @op: enum pci_sim_op
 * @flags: PCI_SIM_DESC_*
 * @src: address on the bus, as the device sees it (or the pattern)
 * @dst: address on the bus, as the device sees it
 * @len: bytes, 0 only for PCI_SIM_OP_NOP
 * @count: how often to repeat, 0 means once
 * @vector: MSI-X vector that the requests belong to: it selects the entry of
 *	    the ST table in Interrupt Vector Mode, and in Device Specific Mode
 *	    if there is a table, and is raised at the end with PCI_SIM_DESC_IRQ
 *	    (with MSI, the one message that there is)
 * @st: Steering Tag of the requests in Device Specific Mode without a table
 * @ph: Processing Hint of the requests, 0..3
 * @reserved: must be 0
 */
struct pci_sim_desc {
	__le32 op;
	__le32 flags;
#define PCI_SIM_DESC_IRQ		0x00000001
	__le64 src;
	__le64 dst;
	__le32 len;
	__le32 count;
	__le16 vector;
	__le16 st;
	__u8 ph;
	__u8 reserved[3];
};

enum pci_sim_record_type {
	PCI_SIM_CFG_READ = 1,
	PCI_SIM_CFG_WRITE,
	PCI_SIM_TLP_MRD,	/* Memory Read Request */
	PCI_SIM_TLP_MWR,	/* Memory Write Request */
	PCI_SIM_TLP_MSI,	/* Memory Write Request of an interrupt */
	PCI_SIM_RESET,
	PCI_SIM_VIOLATION,
	PCI_SIM_ERROR,		/* detected by the function */
};

enum pci_sim_fate {
	PCI_SIM_FATE_OK,	/* arrived, or the config access succeeded */
	PCI_SIM_FATE_FAILED,	/* config access was made to fail */
	PCI_SIM_FATE_NOT_SENT,	/* Bus Master Enable or D0 missing; error masked */
	PCI_SIM_FATE_UNSUPPORTED, /* no completer at the address, or no collector */
	PCI_SIM_FATE_TRANSLATION, /* the IOMMU has no translation */
	PCI_SIM_FATE_HINTS_DROPPED, /* arrived, hints were not forwarded */
	PCI_SIM_FATE_MALFORMED,	/* prefix that the receiver does not support */
	PCI_SIM_FATE_BLOCKED,	/* prefix or error that a port is told not to send */
};

enum pci_sim_reset {
	PCI_SIM_RESET_FLR = 1,
	PCI_SIM_RESET_AF_FLR,
	PCI_SIM_RESET_D3HOT,
	PCI_SIM_RESET_BUS,
	PCI_SIM_RESET_PF,	/* of the PF, or VF Enable cleared */
	PCI_SIM_RESET_BACKDOOR,	/* without a config access */
};

enum pci_sim_violation {
	/* An ST entry changed in the MSI-X table while Requester Enable was set */
	PCI_SIM_VIOLATION_ST_MSIX = 1,
	/* An ST entry in the capability was written while Requester Enable was set */
	PCI_SIM_VIOLATION_ST_CAP,
	/* TPH was enabled with a mode or type that the capability lacks */
	PCI_SIM_VIOLATION_TPH_CTRL,
};

enum pci_sim_error {
	PCI_SIM_ERROR_COR = 1,
	PCI_SIM_ERROR_NONFATAL,
	PCI_SIM_ERROR_FATAL,
};

/**
 * struct pci_sim_record - one event on the simulated hierarchy
 * @seq: number of the record, from 0, over all of pci-sim
 * @lost: records between the one that this reader got before and this one
 * @type: enum pci_sim_record_type
 * @fate: enum pci_sim_fate
 * @flags: PCI_SIM_RECORD_*
 * @ph: Processing Hint (TLPs with PCI_SIM_RECORD_TH)
 * @domain: PCI domain
 * @bdf: bus, device, function: requester of a TLP, target of a config access
 * @st: Steering Tag (TLPs with PCI_SIM_RECORD_TH)
 * @target: TLPs to a peer: bus, device, function of the completer
 * @addr: address in the TLP, or register of a config access; violations: the
 *	  register, or the entry in the MSI-X table
 * @phys: where the request arrived, after translation
 * @len: bytes
 * @value: config accesses: the value; interrupts: the vector; resets: enum
 *	   pci_sim_reset; violations: enum pci_sim_violation; errors: enum
 *	   pci_sim_error
 */
struct pci_sim_record {
	__aligned_u64 seq;
	__u32 lost;
	__u8 type;
	__u8 fate;
	__u8 flags;
#define PCI_SIM_RECORD_TH		0x01 /* TH bit set: PH and ST are valid */
#define PCI_SIM_RECORD_PREFIX		0x02 /* 16-bit ST, in a TLP Prefix if not in Flit Mode */
#define PCI_SIM_RECORD_PEER		0x04 /* completed by another function */
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

/*
 * /dev/pci-sim-dmabuf: each open file is an importer that can be attached to one
 * dma-buf, for an endpoint that the driver pci-sim-dmabuf is bound to. Closing
 * the file, or removing the endpoint, detaches.
 */
#define PCI_SIM_DMABUF_TYPE		0xBB

/**
 * struct pci_sim_dmabuf_export - PCI_SIM_DMABUF_EXPORT: memory as a dma-buf
 * @size: bytes, a multiple of the page size, at most 4 MiB with pages of 4 KiB
 * @cpu: CPU whose Steering Tags requests to it should carry, one of the cpuset of
 *       the caller
 *
 * Returns a file descriptor.
 */
struct pci_sim_dmabuf_export {
	__u32 size;
	__u32 cpu;
};

/**
 * struct pci_sim_dmabuf_attach - PCI_SIM_DMABUF_ATTACH: attach to a dma-buf
 * @fd: the dma-buf
 * @domain: PCI domain of the endpoint
 * @bdf: bus, device, function
 */
struct pci_sim_dmabuf_attach {
	__s32 fd;
	__u16 domain;
	__u16 bdf;
};

/**
 * struct pci_sim_dmabuf_tph - PCI_SIM_DMABUF_GET_TPH: ask for hints
 * @extended: ask for a 16-bit Steering Tag, 0 or 1
 * @st: the answer (untouched if there is none)
 * @ph: the answer
 * @reserved: must be 0
 */
struct pci_sim_dmabuf_tph {
	__u32 extended;
	__u16 st;
	__u8 ph;
	__u8 reserved;
};

/**
 * struct pci_sim_dmabuf_write - PCI_SIM_DMABUF_WRITE: let the endpoint write
 * @pattern: 8 bytes, repeated
 * @offset: in the dma-buf
 * @len: bytes, not 0
 *
 * The requests carry the hints that the exporter has for the type of TPH
 * requests that is enabled in the endpoint. Without any they carry a Steering
 * Tag and a Processing Hint of 0. If the endpoint has an ST table, the tag is put
 * into entry 0; in the MSI-X table that has a vector for the time of the write.
 */
struct pci_sim_dmabuf_write {
	__aligned_u64 pattern;
	__u32 offset;
	__u32 len;
};

#define PCI_SIM_DMABUF_EXPORT \
	_IOW(PCI_SIM_DMABUF_TYPE, 0, struct pci_sim_dmabuf_export)
#define PCI_SIM_DMABUF_ATTACH \
	_IOW(PCI_SIM_DMABUF_TYPE, 1, struct pci_sim_dmabuf_attach)
#define PCI_SIM_DMABUF_GET_TPH \
	_IOWR(PCI_SIM_DMABUF_TYPE, 2, struct pci_sim_dmabuf_tph)
#define PCI_SIM_DMABUF_WRITE \
	_IOW(PCI_SIM_DMABUF_TYPE, 3, struct pci_sim_dmabuf_write)

#endif /* _UAPI_LINUX_PCI_SIM_H */
