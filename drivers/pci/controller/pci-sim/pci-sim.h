/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Simulated PCIe hierarchy for tests
 */
#ifndef _PCI_SIM_H
#define _PCI_SIM_H

#include <linux/acpi.h>
#include <linux/completion.h>
#include <linux/configfs.h>
#include <linux/iommu.h>
#include <linux/ioport.h>
#include <linux/irq_work.h>
#include <linux/list.h>
#include <linux/msi.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

#include <uapi/linux/pci_sim.h>

/*
 * Locking
 *
 * pci_sim_fabric.live_lock (mutex) serializes a fabric's going live and the end
 * of that, which waits for the users of the devices. It is taken under
 * configfs' own locks, and the locks of the PCI core are taken under it.
 *
 * pci_sim_fabric.lock (mutex) protects the description of a fabric in configfs,
 * and what has been made of it; the description does not change while the
 * fabric is live. It is taken under configfs' own locks and live_lock, and the
 * locks of the PCI core are taken under it while the fabric goes live. Nothing
 * waits for users of the devices under it, so attributes can be read meanwhile.
 *
 * pci_sim_lock (raw spinlock, interrupts off) is "the hardware". It protects
 * the registers of all functions, the list of host bridges, which IOMMU domain
 * a function is attached to, and the trace. A config access happens under it,
 * and so does a request of an endpoint from the decision about its hints to
 * the copied data and the record. Therefore the trace has the order in which
 * things happened, a reset has no request in flight when it returns, and an
 * unmap that has taken the lock once after it changed the page table cannot
 * be overtaken by the data of an old translation. pci_ops are called with the
 * PCI core's own raw lock held or from atomic context, so nothing under
 * pci_sim_lock allocates or sleeps.
 *
 * What a register write starts, apart from its effect on registers, runs
 * later: pci_sim_fn.kick (irq_work) queues the work of the engine, and
 * pci_sim_host.msi_work (irq_work) calls the interrupt handlers.
 */
extern raw_spinlock_t pci_sim_lock;

#define PCI_SIM_NR_REGS		(PCI_CFG_SPACE_EXP_SIZE / 4)
#define PCI_SIM_NR_BARS		PCI_STD_NUM_BARS
#define PCI_SIM_NR_MSIS		8192
#define PCI_SIM_MSIX_MAX	2048
#define PCI_SIM_NR_TRAPS	16
#define PCI_SIM_PREFIXES_MAX	4
#define PCI_SIM_SWITCHES_MAX	4	/* one below the other */
#define PCI_SIM_VFS_MAX		7	/* the functions of one device */
#define PCI_SIM_DOMAIN_MAX	0xffff

/* Where the capabilities are */
#define PCI_SIM_CAP_PM		0x40
#define PCI_SIM_CAP_EXP		0x50
#define PCI_SIM_CAP_MSIX	0x90
#define PCI_SIM_CAP_AF		0xa0
#define PCI_SIM_CAP_MSI		0xb0
#define PCI_SIM_CAP_ACS		0x100	/* of ports */
#define PCI_SIM_CAP_RCEC	0x100	/* of event collectors */
#define PCI_SIM_CAP_VSEC	0x100	/* of endpoints */
#define PCI_SIM_CAP_PASID	0x120
#define PCI_SIM_CAP_TPH		0x140
#define PCI_SIM_CAP_AER		0x200
#define PCI_SIM_CAP_SRIOV	0x280
#define PCI_SIM_CAP_SRIOV_END	0x2c0

/* Addresses that are interrupts and not memory, as on any x86 system */
#define PCI_SIM_MSI_START	0xfee00000
#define PCI_SIM_MSI_SIZE	0x00100000

enum pci_sim_kind {
	PCI_SIM_HOST_BRIDGE,
	PCI_SIM_ROOT_PORT,
	PCI_SIM_UPSTREAM,
	PCI_SIM_DOWNSTREAM,
	PCI_SIM_ENDPOINT,
	PCI_SIM_RCIEP,
	PCI_SIM_COLLECTOR,
	PCI_SIM_VF,
	PCI_SIM_NR_KINDS,
};

struct pci_sim_fn;
struct pci_sim_host;

/**
 * struct pci_sim_fabric - directory below the configfs subsystem
 * @group: configfs
 * @live_lock: see above
 * @lock: see above
 * @hosts: struct pci_sim_node of each host bridge
 * @live: the PCI devices exist, or are about to come or go; changes under both
 *	locks
 */
struct pci_sim_fabric {
	struct config_group group;
	struct mutex live_lock;	/* going live, and the end of that */
	struct mutex lock;	/* description, and what has been made of it */
	struct list_head hosts;
	bool live;
};

/**
 * struct pci_sim_node - description of a component, a directory in configfs
 * @group: configfs
 * @fabric: the fabric that the component belongs to
 * @siblings: entry in @children of the parent, or in @hosts of the fabric
 * @children: components below
 * @kind: what it is
 * @number: device number, function number at the end of a link, or number of the
 *	host bridge or VF
 * @switches: switches on the way from the host bridge, with this one
 * @host: the host bridge, while live
 * @fn: the function, while live
 * @acpi_path: ACPI device of a host bridge, NULL for none
 * @domain: PCI domain of a host bridge, 0 for any
 * @aer: function with AER capability
 * @acs: port with ACS capability
 * @bus_reset: port that has Secondary Bus Reset
 * @vendor: Vendor ID of a Root Port
 * @flit: port with its link in Flit Mode
 * @prefixes: End-End TLP Prefixes supported, at most 4
 * @prefix_block: port that begins with End-End TLP Prefixes blocked
 * @pasid: endpoint with PASID capability
 * @tph_completer: TPH Completer Supported
 * @forward_hints: Root Port behind which hints are not dropped
 * @tph: endpoint with TPH capability
 * @tph_modes: ST modes supported
 * @tph_ext: Extended TPH Requester Supported
 * @tph_loc: ST Table Location
 * @tph_st_size: ST Table Size
 * @tph_pos: offset of the TPH capability, 0 for the usual one
 * @associated: Association Bitmap for RCiEPs of an event collector
 * @msi: endpoint with MSI capability
 * @msix: size of the MSI-X table, 0 for no MSI-X
 * @flr: Function Level Reset Capability
 * @af_flr: FLR through the Advanced Features capability
 * @no_soft_reset: No_Soft_Reset
 */
struct pci_sim_node {
	struct config_group group;
	struct pci_sim_fabric *fabric;
	struct list_head siblings;
	struct list_head children;
	enum pci_sim_kind kind;
	u8 number;
	u8 switches;
	struct pci_sim_host *host;
	struct pci_sim_fn *fn;

	char *acpi_path;
	u32 domain;
	u32 aer;
	u32 acs;
	u32 bus_reset;
	u32 vendor;
	u32 flit;
	u32 prefixes;
	u32 prefix_block;
	u32 pasid;
	u32 tph_completer;
	u32 forward_hints;
	u32 tph;
	u32 tph_modes;
	u32 tph_ext;
	u32 tph_loc;
	u32 tph_st_size;
	u32 tph_pos;
	u32 associated;
	u32 msi;
	u32 msix;
	u32 flr;
	u32 af_flr;
	u32 no_soft_reset;
};

/**
 * struct pci_sim_reg - one dword of config space
 * @value: what a read returns
 * @reset: @value after a reset
 * @rw: bits that software can write
 * @w1c: bits that software clears by writing 1
 * @keep: bits that resets of one function, as FLR, leave alone
 * @sticky: bits that all resets leave alone
 */
struct pci_sim_reg {
	u32 value;
	u32 reset;
	u32 rw;
	u32 w1c;
	u32 keep;
	u32 sticky;
};

/**
 * struct pci_sim_trap - registers whose writes have an effect
 * @first: offset of the first dword
 * @last: offset of the last dword
 * @write: called under pci_sim_lock after the value has been changed. @reg is
 *	the offset of the dword, @old its value before, @val what has been
 *	written and @mask the bytes that have been written.
 */
struct pci_sim_trap {
	u16 first;
	u16 last;
	void (*write)(struct pci_sim_fn *fn, unsigned int reg, u32 old,
		      u32 val, u32 mask);
};

struct pci_sim_fail {
	u16 where;
	u32 count;
	u32 skip;
};

/**
 * struct pci_sim_fn - a function of the simulated hardware
 * @host: host bridge that the function is below
 * @parent: bridge that the function is below, NULL on the root bus
 * @pf: PF of a VF, else NULL
 * @children: functions below the bridge, or VFs of the endpoint
 * @siblings: entry in @children of the parent or PF, or in @fns of the host
 *	bridge
 * @node: description
 * @kind: as in @node
 * @devfn: device and function number
 * @bdf: bus, device and function, the requester ID
 * @reg: config space
 * @trap: registers whose writes have an effect
 * @nr_traps: members used in @trap
 * @last_cap: offset of the capability that was added last
 * @last_ext_cap: offset of the extended capability that was added last
 * @pm: offset of the Power Management capability
 * @exp: offset of the PCI Express capability
 * @msi: offset of the MSI capability or 0
 * @msix: offset of the MSI-X capability or 0
 * @vsec: offset of the capability with the engine or 0
 * @tph: offset of the TPH capability or 0
 * @aer: offset of the AER capability or 0
 * @rcec: offset of the Event Collector capability or 0
 * @sriov: offset of the SR-IOV capability or 0
 * @nr_vfs: VFs that exist
 * @nr_msix: entries in the MSI-X table
 * @msix_table: the MSI-X table when the function entered D3hot
 * @msix_saved: it did, and had a table
 * @bar: address of the memory behind each BAR or 0
 * @fail_read: config reads to fail
 * @fail_write: config writes to fail
 * @domain: what the IOMMU translates with, NULL blocks
 * @generation: changes with each reset, a request of an old one is not sent
 * @hang: does not come back from the next reset
 * @hung: has not come back from a reset
 * @dead: going away, nothing may be queued any more
 * @go: the engine has been started and its work not been queued
 * @kick: queues the work that a register write or a request wants
 * @work: the engine
 * @buf: data of a request
 * @pba_work: looks after vectors that have been raised while masked
 * @pending: these vectors
 * @st_snapshot: ST entries in the MSI-X table when Requester Enable was set
 */
struct pci_sim_fn {
	struct pci_sim_host *host;
	struct pci_sim_fn *parent;
	struct pci_sim_fn *pf;
	struct list_head children;
	struct list_head siblings;
	struct pci_sim_node *node;
	enum pci_sim_kind kind;
	u8 devfn;
	u16 bdf;

	struct pci_sim_reg reg[PCI_SIM_NR_REGS];
	struct pci_sim_trap trap[PCI_SIM_NR_TRAPS];
	unsigned int nr_traps;
	u16 last_cap;
	u16 last_ext_cap;
	u16 pm;
	u16 exp;
	u16 msi;
	u16 msix;
	u16 vsec;
	u16 tph;
	u16 aer;
	u16 rcec;
	u16 sriov;
	u16 nr_vfs;
	u16 nr_msix;
	void *msix_table;
	bool msix_saved;
	phys_addr_t bar[PCI_SIM_NR_BARS];
	struct pci_sim_fail fail_read;
	struct pci_sim_fail fail_write;

	struct iommu_domain *domain;

	unsigned int generation;
	bool hang;
	bool hung;
	bool dead;
	bool go;
	struct irq_work kick;
	struct work_struct work;
	void *buf;

	struct delayed_work pba_work;
	DECLARE_BITMAP(pending, PCI_SIM_MSIX_MAX);
	u16 *st_snapshot;
};

/**
 * struct pci_sim_host - a host bridge of the simulated hardware
 * @sysdata: for the x86 PCI code; identifies the buses of the host bridge
 * @list: entry in the list of all host bridges
 * @node: description
 * @fns: functions on the root bus
 * @companion: ACPI device or NULL
 * @bridge: the PCI core's host bridge
 * @probed: @bridge has buses
 * @released: completed when the last user of @bridge is gone
 * @mem: memory window
 * @busn: bus numbers
 * @msi_domain: parent of the MSI domains of the devices
 * @msi_requester: owner of each interrupt: requester ID + 1, or 0
 * @msi_pending: interrupts to handle
 * @msi_work: handles them
 */
struct pci_sim_host {
	struct pci_sysdata sysdata;
	struct list_head list;
	struct pci_sim_node *node;
	struct list_head fns;
	struct acpi_device *companion;
	struct pci_host_bridge *bridge;
	bool probed;
	struct completion released;
	struct resource mem;
	struct resource busn;

	struct irq_domain *msi_domain;
	u32 *msi_requester;
	unsigned long *msi_pending;
	struct irq_work msi_work;
};

/**
 * struct pci_sim_tlp - a request on its way
 * @type: PCI_SIM_TLP_*
 * @addr: address
 * @len: bytes, no more than up to the next 4K boundary
 * @vector: interrupt vector that the request belongs to
 * @st: Steering Tag that the descriptor asked for
 * @ph: Processing Hint that the descriptor asked for
 */
struct pci_sim_tlp {
	enum pci_sim_record_type type;
	u64 addr;
	u32 len;
	u16 vector;
	u16 st;
	u8 ph;
};

static inline bool pci_sim_is_bridge(const struct pci_sim_fn *fn)
{
	return fn->kind == PCI_SIM_ROOT_PORT || fn->kind == PCI_SIM_UPSTREAM ||
	       fn->kind == PCI_SIM_DOWNSTREAM;
}

/* Does a link begin here, so that what is below are functions of device 0? */
static inline bool pci_sim_has_link(const struct pci_sim_fn *fn)
{
	return fn && (fn->kind == PCI_SIM_ROOT_PORT ||
		      fn->kind == PCI_SIM_DOWNSTREAM);
}

static inline bool pci_sim_is_multifunction(const struct pci_sim_fn *fn)
{
	return pci_sim_has_link(fn->parent) &&
	       list_count_nodes(&fn->parent->node->children) > 1;
}

static inline u32 pci_sim_get32(const struct pci_sim_fn *fn, unsigned int where)
{
	return fn->reg[where / 4].value;
}

static inline u16 pci_sim_get16(const struct pci_sim_fn *fn, unsigned int where)
{
	return fn->reg[where / 4].value >> (8 * (where & 2));
}

static inline u8 pci_sim_get8(const struct pci_sim_fn *fn, unsigned int where)
{
	return fn->reg[where / 4].value >> (8 * (where & 3));
}

static inline bool pci_sim_in_d0(const struct pci_sim_fn *fn)
{
	return !(pci_sim_get16(fn, fn->pm + PCI_PM_CTRL) &
		 PCI_PM_CTRL_STATE_MASK);
}

/* VFs are there all the time, but nobody can see them without VF Enable */
static inline bool pci_sim_exists(const struct pci_sim_fn *fn)
{
	return !fn->pf || fn->node->number < fn->pf->nr_vfs;
}

static inline bool pci_sim_bridge_forwards(const struct pci_sim_fn *bridge)
{
	return pci_sim_in_d0(bridge) &&
	       !(pci_sim_get16(bridge, PCI_BRIDGE_CONTROL) &
		 PCI_BRIDGE_CTL_BUS_RESET);
}

/* core.c */
extern struct list_head pci_sim_hosts;
extern struct resource pci_sim_window;
void __iomem *pci_sim_window_ptr(phys_addr_t phys, size_t len);
struct pci_sim_fn *pci_sim_fn_of(struct pci_dev *pdev);
int pci_sim_fabric_start(struct pci_sim_fabric *fabric);
void pci_sim_fabric_stop(struct pci_sim_fabric *fabric);

/* config.c */
extern struct pci_ops pci_sim_ops;
struct pci_sim_fn *pci_sim_find_devfn(struct list_head *fns, u8 devfn);
struct pci_sim_fn *pci_sim_route_config(struct pci_sim_host *host, u8 bus,
					u8 devfn);

/* function.c */
void pci_sim_def(struct pci_sim_fn *fn, unsigned int where, unsigned int size,
		 u32 value, u32 rw, u32 w1c);
void pci_sim_set_trap(struct pci_sim_fn *fn, u16 first, u16 last,
		      void (*write)(struct pci_sim_fn *fn, unsigned int reg,
				    u32 old, u32 val, u32 mask));
void pci_sim_add_cap(struct pci_sim_fn *fn, u8 id, u16 where);
void pci_sim_add_ext_cap(struct pci_sim_fn *fn, u16 id, u16 where);
int pci_sim_fn_init(struct pci_sim_fn *fn);
void pci_sim_fn_reset(struct pci_sim_fn *fn, enum pci_sim_reset how);
void pci_sim_place_bar(struct pci_sim_fn *fn, unsigned int bar, u32 addr);
void __iomem *pci_sim_bar_ptr(struct pci_sim_fn *fn, unsigned int bar,
			      u32 offset, size_t len);

/* configfs.c */
int pci_sim_configfs_init(void);
void pci_sim_configfs_exit(void);

/* msi.c */
int pci_sim_msi_init(struct pci_sim_host *host);
void pci_sim_msi_exit(struct pci_sim_host *host);
bool pci_sim_msi_receive(struct pci_sim_host *host, u16 requester, u32 data);
void pci_sim_msi_add(struct pci_sim_fn *fn);
u32 pci_sim_msix_vctrl(struct pci_sim_fn *fn, unsigned int vector);
void pci_sim_msix_d3hot(struct pci_sim_fn *fn);
void pci_sim_msix_d0(struct pci_sim_fn *fn);
int pci_sim_msix_init(struct pci_sim_fn *fn);
void pci_sim_msix_reset(struct pci_sim_fn *fn);
void pci_sim_irq_raise(struct pci_sim_fn *fn, unsigned int vector);
void pci_sim_msix_poll(struct work_struct *work);

/* iommu.c */
int pci_sim_iommu_init(void);
void pci_sim_iommu_exit(void);
bool pci_sim_translate(struct pci_sim_fn *fn, u64 addr, bool write,
		       phys_addr_t *phys);

/* engine.c */
int pci_sim_engine_init(struct pci_sim_fn *fn);
void pci_sim_engine_exit(struct pci_sim_fn *fn);
void pci_sim_engine_reset(struct pci_sim_fn *fn);
void pci_sim_engine_add(struct pci_sim_fn *fn);

/* fabric.c */
enum pci_sim_fate pci_sim_send(struct pci_sim_fn *fn,
			       const struct pci_sim_tlp *tlp, void *data);

/* tph.c */
int pci_sim_tph_init(struct pci_sim_fn *fn);
void pci_sim_tph_reset(struct pci_sim_fn *fn);
void pci_sim_tph_hints(struct pci_sim_fn *fn, const struct pci_sim_tlp *tlp,
		       struct pci_sim_record *rec);
unsigned int pci_sim_st_entries(struct pci_sim_fn *fn);
u16 pci_sim_st_entry(struct pci_sim_fn *fn, unsigned int index);

/* aer.c */
void pci_sim_aer_add(struct pci_sim_fn *fn);
void pci_sim_aer_detect(struct pci_sim_fn *fn, enum pci_sim_error error);

/* sriov.c */
int pci_sim_sriov_init(struct pci_sim_fn *pf);
void pci_sim_set_vfs(struct pci_sim_fn *pf, u16 nr_vfs);
u32 pci_sim_vf_bar(const struct pci_sim_fn *vf, unsigned int bar);

/* analyzer.c */
int pci_sim_analyzer_init(void);
void pci_sim_analyzer_exit(void);
void pci_sim_record(struct pci_sim_fn *fn, struct pci_sim_record *rec);

#endif /* _PCI_SIM_H */
