// SPDX-License-Identifier: GPL-2.0-only
/*
 * Simulated PCIe hierarchy for tests: registers of the functions
 *
 * Each kind of function is a table of {value, rw, w1c} for the dwords of its
 * config space, in the manner of drivers/pci/pci-bridge-emul.c, with traps
 * for the registers whose writes have an effect.
 */
#include <linux/bitfield.h>
#include <linux/lockdep.h>

#include "pci-sim.h"

/* What firmware would choose for all: a Max_Payload_Size of 512 bytes */
#define PCI_SIM_FIRMWARE_MPS	FIELD_PREP(PCI_EXP_DEVCTL_PAYLOAD, 2)

/* Redirect everything, so that each function gets an IOMMU group */
#define PCI_SIM_ACS_BITS	(PCI_ACS_SV | PCI_ACS_RR | PCI_ACS_CR | \
				 PCI_ACS_UF)

/**
 * pci_sim_def() - define a register
 * @fn: function
 * @where: offset
 * @size: bytes, all of one dword
 * @value: value now and after a reset
 * @rw: bits that software can write
 * @w1c: bits that software clears by writing 1
 */
void pci_sim_def(struct pci_sim_fn *fn, unsigned int where, unsigned int size,
		 u32 value, u32 rw, u32 w1c)
{
	struct pci_sim_reg *reg = &fn->reg[where / 4];
	unsigned int shift = 8 * (where & 3);
	u32 mask = GENMASK(8 * size - 1, 0) << shift;

	reg->value = (reg->value & ~mask) | ((value << shift) & mask);
	reg->rw = (reg->rw & ~mask) | ((rw << shift) & mask);
	reg->w1c = (reg->w1c & ~mask) | ((w1c << shift) & mask);
	reg->reset = reg->value;
}

/**
 * pci_sim_set_trap() - have a function called after writes
 * @fn: function
 * @first: offset of the first register
 * @last: offset of the last register
 * @write: see struct pci_sim_trap
 */
void pci_sim_set_trap(struct pci_sim_fn *fn, u16 first, u16 last,
		      void (*write)(struct pci_sim_fn *fn, unsigned int reg,
				    u32 old, u32 val, u32 mask))
{
	if (WARN_ON(fn->nr_traps == PCI_SIM_NR_TRAPS))
		return;

	fn->trap[fn->nr_traps++] = (struct pci_sim_trap) {
		.first = first & ~3,
		.last = last & ~3,
		.write = write,
	};
}

/**
 * pci_sim_add_cap() - begin a capability, the next one in the list
 * @fn: function
 * @id: PCI_CAP_ID_*
 * @where: offset
 */
void pci_sim_add_cap(struct pci_sim_fn *fn, u8 id, u16 where)
{
	pci_sim_def(fn, where + PCI_CAP_LIST_ID, 1, id, 0, 0);
	if (fn->last_cap) {
		pci_sim_def(fn, fn->last_cap + PCI_CAP_LIST_NEXT, 1, where, 0,
			    0);
	} else {
		pci_sim_def(fn, PCI_CAPABILITY_LIST, 1, where, 0, 0);
		/* Resets are done when the write returns: nothing to wait for */
		pci_sim_def(fn, PCI_STATUS, 2,
			    PCI_STATUS_CAP_LIST | PCI_STATUS_IMM_READY, 0,
			    PCI_STATUS_PARITY | PCI_STATUS_SIG_TARGET_ABORT |
			    PCI_STATUS_REC_TARGET_ABORT |
			    PCI_STATUS_REC_MASTER_ABORT |
			    PCI_STATUS_SIG_SYSTEM_ERROR |
			    PCI_STATUS_DETECTED_PARITY);
	}
	fn->last_cap = where;
}

/**
 * pci_sim_add_ext_cap() - begin an extended capability, the next in the list
 * @fn: function
 * @id: PCI_EXT_CAP_ID_*
 * @where: offset, of the first one PCI_CFG_SPACE_SIZE
 */
void pci_sim_add_ext_cap(struct pci_sim_fn *fn, u16 id, u16 where)
{
	pci_sim_def(fn, where, 4, id | 1 << 16, 0, 0);
	if (fn->last_ext_cap)
		pci_sim_def(fn, fn->last_ext_cap + 2, 2,
			    pci_sim_get16(fn, fn->last_ext_cap + 2) |
			    where << 4, 0, 0);
	fn->last_ext_cap = where;
}

/*
 * Resets
 */

static void pci_sim_reset_below(struct pci_sim_fn *bridge)
{
	struct pci_sim_fn *fn;

	list_for_each_entry(fn, &bridge->children, siblings)
		pci_sim_fn_reset(fn, PCI_SIM_RESET_BUS);
}

/**
 * pci_sim_fn_reset() - reset a function, and with it what is below
 * @fn: function
 * @how: kind of reset
 */
void pci_sim_fn_reset(struct pci_sim_fn *fn, enum pci_sim_reset how)
{
	struct pci_sim_record rec = {
		.type = PCI_SIM_RESET,
		.value = how,
	};
	struct pci_sim_reg *reg;
	u32 keep;

	lockdep_assert_held(&pci_sim_lock);

	if (fn->sriov)
		pci_sim_set_vfs(fn, 0);
	pci_sim_tph_reset(fn);
	pci_sim_record(fn, &rec);
	pci_sim_engine_reset(fn);
	pci_sim_msix_reset(fn);

	for (reg = fn->reg; reg < fn->reg + PCI_SIM_NR_REGS; reg++) {
		keep = reg->sticky;
		if (how != PCI_SIM_RESET_BUS)
			keep |= reg->keep;
		reg->value = (reg->value & keep) | (reg->reset & ~keep);
	}

	if (how != PCI_SIM_RESET_BACKDOOR)
		fn->hung = fn->hang;

	if (pci_sim_is_bridge(fn))
		pci_sim_reset_below(fn);
}

static void pci_sim_devctl_write(struct pci_sim_fn *fn, unsigned int reg,
				 u32 old, u32 val, u32 mask)
{
	u32 devcap = pci_sim_get32(fn, fn->exp + PCI_EXP_DEVCAP);

	if (devcap & PCI_EXP_DEVCAP_FLR && val & PCI_EXP_DEVCTL_BCR_FLR)
		pci_sim_fn_reset(fn, PCI_SIM_RESET_FLR);
}

static void pci_sim_af_write(struct pci_sim_fn *fn, unsigned int reg, u32 old,
			     u32 val, u32 mask)
{
	if (val & PCI_AF_CTRL_FLR)
		pci_sim_fn_reset(fn, PCI_SIM_RESET_AF_FLR);
}

static void pci_sim_pm_write(struct pci_sim_fn *fn, unsigned int reg, u32 old,
			     u32 val, u32 mask)
{
	u32 *value = &fn->reg[reg / 4].value;
	u32 to = *value & PCI_PM_CTRL_STATE_MASK;

	/* D1 and D2 are not supported: such a write changes nothing */
	if (to && to != PCI_PM_CTRL_STATE_MASK) {
		*value = (*value & ~PCI_PM_CTRL_STATE_MASK) |
			 (old & PCI_PM_CTRL_STATE_MASK);
		return;
	}

	if (to && !(old & PCI_PM_CTRL_STATE_MASK))
		pci_sim_msix_d3hot(fn);

	if (!to && old & PCI_PM_CTRL_STATE_MASK) {
		pci_sim_msix_d0(fn);
		if (!(*value & PCI_PM_CTRL_NO_SOFT_RESET))
			pci_sim_fn_reset(fn, PCI_SIM_RESET_D3HOT);
	}
}

static void pci_sim_bridge_ctl_write(struct pci_sim_fn *fn, unsigned int reg,
				     u32 old, u32 val, u32 mask)
{
	u32 reset = PCI_BRIDGE_CTL_BUS_RESET << 16;
	u32 *lnksta = &fn->reg[(fn->exp + PCI_EXP_LNKCTL) / 4].value;
	u32 active = PCI_EXP_LNKSTA_DLLLA << 16;
	u32 new = pci_sim_get32(fn, reg);

	if (!((old ^ new) & reset))
		return;

	if (new & reset) {
		if (fn->kind != PCI_SIM_UPSTREAM)
			*lnksta &= ~active;
		pci_sim_reset_below(fn);
	} else if (fn->kind != PCI_SIM_UPSTREAM &&
		   !list_empty(&fn->children)) {
		*lnksta |= active;
	}
}

/*
 * BARs
 */

/**
 * pci_sim_bar_ptr() - memory behind a BAR
 * @fn: function
 * @bar: BAR
 * @offset: offset in the BAR
 * @len: bytes
 *
 * The function itself can use its memory even if it does not decode the BAR.
 *
 * Return: the memory, or NULL if no address has been assigned to the BAR.
 */
void __iomem *pci_sim_bar_ptr(struct pci_sim_fn *fn, unsigned int bar,
			      u32 offset, size_t len)
{
	if (!fn->bar[bar])
		return NULL;

	return pci_sim_window_ptr(fn->bar[bar] + offset, len);
}

/**
 * pci_sim_place_bar() - a BAR has been written
 * @fn: function
 * @bar: BAR
 * @addr: address
 *
 * The memory is where the BAR points to, and stays there while the BAR has
 * other values, which happens when it is sized and in resets.
 */
void pci_sim_place_bar(struct pci_sim_fn *fn, unsigned int bar, u32 addr)
{
	if (addr == fn->bar[bar] || addr < fn->host->mem.start ||
	    addr > fn->host->mem.end - PCI_SIM_BAR_SIZE + 1)
		return;

	fn->bar[bar] = addr;
	if (bar == PCI_SIM_MSIX_BAR)
		pci_sim_msix_reset(fn);
}

static void pci_sim_bar_write(struct pci_sim_fn *fn, unsigned int reg, u32 old,
			      u32 val, u32 mask)
{
	pci_sim_place_bar(fn, (reg - PCI_BASE_ADDRESS_0) / 4,
			  pci_sim_get32(fn, reg) & PCI_BASE_ADDRESS_MEM_MASK);
}

static void pci_sim_init_bar(struct pci_sim_fn *fn, unsigned int bar)
{
	u16 where = PCI_BASE_ADDRESS_0 + 4 * bar;

	pci_sim_def(fn, where, 4, 0, ~(PCI_SIM_BAR_SIZE - 1), 0);
	pci_sim_set_trap(fn, where, where, pci_sim_bar_write);
}

/*
 * Capabilities that more than one kind has
 */

static void pci_sim_init_pm(struct pci_sim_fn *fn, bool no_soft_reset)
{
	fn->pm = PCI_SIM_CAP_PM;
	pci_sim_add_cap(fn, PCI_CAP_ID_PM, fn->pm);
	pci_sim_def(fn, fn->pm + PCI_PM_PMC, 2, 3, 0, 0);
	pci_sim_def(fn, fn->pm + PCI_PM_CTRL, 2,
		    no_soft_reset ? PCI_PM_CTRL_NO_SOFT_RESET : 0,
		    PCI_PM_CTRL_STATE_MASK, 0);
	pci_sim_set_trap(fn, fn->pm + PCI_PM_CTRL, fn->pm + PCI_PM_CTRL,
			 pci_sim_pm_write);
}

static void pci_sim_init_link(struct pci_sim_fn *fn, u16 exp, bool downstream)
{
	u32 lnkcap = PCI_EXP_LNKCAP_SLS_16_0GB |
		     FIELD_PREP(PCI_EXP_LNKCAP_MLW, 16) |
		     FIELD_PREP(PCI_EXP_LNKCAP_PN, PCI_SLOT(fn->devfn));
	u16 lnksta = PCI_EXP_LNKSTA_CLS_16_0GB |
		     FIELD_PREP(PCI_EXP_LNKSTA_NLW, 16);
	u16 lnksta2 = (downstream ? fn : fn->parent)->node->flit ?
		      PCI_EXP_LNKSTA2_FLIT : 0;
	u16 link_wide = PCI_EXP_LNKCTL_ASPMC | PCI_EXP_LNKCTL_RCB |
			PCI_EXP_LNKCTL_CCC | PCI_EXP_LNKCTL_ES;

	if (downstream) {
		lnkcap |= PCI_EXP_LNKCAP_DLLLARC;
		if (!list_empty(&fn->node->children))
			lnksta |= PCI_EXP_LNKSTA_DLLLA;
	}

	pci_sim_def(fn, exp + PCI_EXP_LNKCAP, 4, lnkcap, 0, 0);
	pci_sim_def(fn, exp + PCI_EXP_LNKCTL, 2, 0, link_wide, 0);
	pci_sim_def(fn, exp + PCI_EXP_LNKSTA, 2, lnksta, 0, 0);
	fn->reg[(exp + PCI_EXP_LNKCTL) / 4].keep = link_wide | lnksta << 16;
	pci_sim_def(fn, exp + PCI_EXP_LNKCAP2, 4,
		    PCI_EXP_LNKCAP2_SLS_2_5GB | PCI_EXP_LNKCAP2_SLS_5_0GB |
		    PCI_EXP_LNKCAP2_SLS_8_0GB | PCI_EXP_LNKCAP2_SLS_16_0GB,
		    0, 0);
	pci_sim_def(fn, exp + PCI_EXP_LNKCTL2, 2, PCI_EXP_LNKCTL2_TLS_16_0GT,
		    PCI_EXP_LNKCTL2_TLS, 0);
	pci_sim_def(fn, exp + PCI_EXP_LNKSTA2, 2, lnksta2, 0, 0);
	fn->reg[(exp + PCI_EXP_LNKCTL2) / 4].keep = PCI_EXP_LNKCTL2_TLS |
						    lnksta2 << 16;
	if (lnksta2)
		pci_sim_def(fn, exp + PCI_EXP_FLAGS, 2,
			    pci_sim_get16(fn, exp + PCI_EXP_FLAGS) |
			    PCI_EXP_FLAGS_FLIT, 0, 0);
}

static void pci_sim_init_exp(struct pci_sim_fn *fn, unsigned int type, bool flr)
{
	const struct pci_sim_node *node = (fn->pf ?: fn)->node;
	u32 devcap2 = PCI_EXP_DEVCAP2_COMP_TMOUT_DIS |
		      FIELD_PREP(PCI_EXP_DEVCAP2_TPH_COMP_MASK,
				 node->tph_completer);
	u16 exp = PCI_SIM_CAP_EXP, block = 0;
	struct pci_sim_reg *reg;

	fn->exp = exp;
	pci_sim_add_cap(fn, PCI_CAP_ID_EXP, exp);
	pci_sim_def(fn, exp + PCI_EXP_FLAGS, 2,
		    2 | FIELD_PREP(PCI_EXP_FLAGS_TYPE, type), 0, 0);
	pci_sim_def(fn, exp + PCI_EXP_DEVCAP, 4,
		    FIELD_PREP(PCI_EXP_DEVCAP_PAYLOAD, 5) |
		    PCI_EXP_DEVCAP_RBER | (flr ? PCI_EXP_DEVCAP_FLR : 0), 0, 0);
	pci_sim_def(fn, exp + PCI_EXP_DEVCTL, 2,
		    PCI_EXP_DEVCTL_RELAX_EN | PCI_EXP_DEVCTL_NOSNOOP_EN |
		    PCI_EXP_DEVCTL_READRQ_512B,
		    0xffff & ~(PCI_EXP_DEVCTL_PHANTOM |
			       PCI_EXP_DEVCTL_AUX_PME |
			       PCI_EXP_DEVCTL_BCR_FLR), 0);
	pci_sim_def(fn, exp + PCI_EXP_DEVSTA, 2, 0, 0,
		    PCI_EXP_DEVSTA_CED | PCI_EXP_DEVSTA_NFED |
		    PCI_EXP_DEVSTA_FED | PCI_EXP_DEVSTA_URD);
	reg = &fn->reg[(exp + PCI_EXP_DEVCTL) / 4];
	reg->keep = PCI_EXP_DEVCTL_PAYLOAD;
	reg->value |= PCI_SIM_FIRMWARE_MPS;
	pci_sim_set_trap(fn, exp + PCI_EXP_DEVCTL, exp + PCI_EXP_DEVCTL,
			 pci_sim_devctl_write);

	if (node->prefixes) {
		/* 4 is 00b */
		devcap2 |= PCI_EXP_DEVCAP2_EE_PREFIX |
			   FIELD_PREP(PCI_EXP_DEVCAP2_EE_PREFIX_MAX,
				      node->prefixes & 3);
		if (pci_sim_is_bridge(fn))
			block = PCI_EXP_DEVCTL2_EE_PREFIX_BLOCK;
	}
	pci_sim_def(fn, exp + PCI_EXP_DEVCAP2, 4, devcap2, 0, 0);
	pci_sim_def(fn, exp + PCI_EXP_DEVCTL2, 2, 0,
		    PCI_EXP_DEVCTL2_COMP_TMOUT_DIS | block, 0);
	/* As firmware would have written it, which a reset undoes */
	if (node->prefix_block)
		fn->reg[(exp + PCI_EXP_DEVCTL2) / 4].value |= block;
}

/* What is not here has the value of the PF, and reads as 0 */
static void pci_sim_init_vf_exp(struct pci_sim_fn *fn)
{
	struct pci_sim_reg *reg;

	pci_sim_init_exp(fn, PCI_EXP_TYPE_ENDPOINT, fn->node->flr);
	pci_sim_init_link(fn, fn->exp, false);
	pci_sim_def(fn, fn->exp + PCI_EXP_DEVCTL, 2, 0, 0, 0);
	pci_sim_def(fn, fn->exp + PCI_EXP_LNKCTL, 4, 0, 0, 0);
	pci_sim_def(fn, fn->exp + PCI_EXP_LNKCTL2, 4, 0, 0, 0);
	for (reg = fn->reg; reg < fn->reg + PCI_SIM_NR_REGS; reg++)
		reg->keep = 0;
}

static void pci_sim_init_header(struct pci_sim_fn *fn, u16 device, u32 class,
				u8 type)
{
	pci_sim_def(fn, PCI_VENDOR_ID, 2, PCI_SIM_VENDOR_ID, 0, 0);
	pci_sim_def(fn, PCI_DEVICE_ID, 2, device, 0, 0);
	pci_sim_def(fn, PCI_COMMAND, 2, 0,
		    PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |
		    PCI_COMMAND_PARITY | PCI_COMMAND_SERR |
		    PCI_COMMAND_INTX_DISABLE, 0);
	pci_sim_def(fn, PCI_CLASS_REVISION, 4, class << 8 | 1, 0, 0);
	pci_sim_def(fn, PCI_CACHE_LINE_SIZE, 1, 0, 0xff, 0);
	if (pci_sim_is_multifunction(fn))
		type |= PCI_HEADER_TYPE_MFD;
	pci_sim_def(fn, PCI_HEADER_TYPE, 1, type, 0, 0);
	pci_sim_def(fn, PCI_INTERRUPT_LINE, 1, 0, 0xff, 0);
}

static void pci_sim_init_acs(struct pci_sim_fn *fn)
{
	if (!fn->node->acs)
		return;

	pci_sim_add_ext_cap(fn, PCI_EXT_CAP_ID_ACS, PCI_SIM_CAP_ACS);
	pci_sim_def(fn, PCI_SIM_CAP_ACS + PCI_ACS_CAP, 2, PCI_SIM_ACS_BITS, 0,
		    0);
	/*
	 * The bits are wired to 1: a driver that comes later than the
	 * enumeration of PCI has no way to ask the PCI core for ACS.
	 */
	pci_sim_def(fn, PCI_SIM_CAP_ACS + PCI_ACS_CTRL, 2, PCI_SIM_ACS_BITS, 0,
		    0);
}

static void pci_sim_init_bridge(struct pci_sim_fn *fn, u16 device)
{
	pci_sim_init_header(fn, device, PCI_CLASS_BRIDGE_PCI_NORMAL,
			    PCI_HEADER_TYPE_BRIDGE);
	pci_sim_def(fn, PCI_PRIMARY_BUS, 4, 0, 0x00ffffff, 0);
	pci_sim_def(fn, PCI_SEC_STATUS, 2, 0, 0,
		    PCI_STATUS_PARITY | PCI_STATUS_SIG_TARGET_ABORT |
		    PCI_STATUS_REC_TARGET_ABORT | PCI_STATUS_REC_MASTER_ABORT |
		    PCI_STATUS_SIG_SYSTEM_ERROR | PCI_STATUS_DETECTED_PARITY);
	pci_sim_def(fn, PCI_MEMORY_BASE, 4, 0, 0xfff0fff0, 0);
	pci_sim_def(fn, PCI_BRIDGE_CONTROL, 2, 0,
		    PCI_BRIDGE_CTL_PARITY | PCI_BRIDGE_CTL_SERR |
		    (fn->node->bus_reset ? PCI_BRIDGE_CTL_BUS_RESET : 0), 0);
	pci_sim_set_trap(fn, PCI_BRIDGE_CONTROL, PCI_BRIDGE_CONTROL,
			 pci_sim_bridge_ctl_write);
	pci_sim_init_pm(fn, true);
}

static void pci_sim_init_root_registers(struct pci_sim_fn *fn)
{
	pci_sim_def(fn, fn->exp + PCI_EXP_RTCTL, 2, 0,
		    PCI_EXP_RTCTL_SECEE | PCI_EXP_RTCTL_SENFEE |
		    PCI_EXP_RTCTL_SEFEE | PCI_EXP_RTCTL_PMEIE, 0);
	pci_sim_def(fn, fn->exp + PCI_EXP_RTSTA, 4, 0, 0, PCI_EXP_RTSTA_PME);
}

static void pci_sim_init_root_port(struct pci_sim_fn *fn)
{
	pci_sim_init_bridge(fn, PCI_SIM_DEVICE_ID_ROOT_PORT);
	pci_sim_def(fn, PCI_VENDOR_ID, 2, fn->node->vendor, 0, 0);
	pci_sim_init_exp(fn, PCI_EXP_TYPE_ROOT_PORT, false);
	pci_sim_init_link(fn, fn->exp, true);
	pci_sim_init_root_registers(fn);
	pci_sim_msi_add(fn);
	pci_sim_init_acs(fn);
	pci_sim_aer_add(fn);
}

static void pci_sim_init_collector(struct pci_sim_fn *fn)
{
	pci_sim_init_header(fn, PCI_SIM_DEVICE_ID_COLLECTOR,
			    PCI_CLASS_SYSTEM_RCEC << 8, PCI_HEADER_TYPE_NORMAL);
	pci_sim_init_pm(fn, true);
	pci_sim_init_exp(fn, PCI_EXP_TYPE_RC_EC, false);
	pci_sim_init_root_registers(fn);
	pci_sim_msi_add(fn);

	fn->rcec = PCI_SIM_CAP_RCEC;
	pci_sim_add_ext_cap(fn, PCI_EXT_CAP_ID_RCEC, fn->rcec);
	pci_sim_def(fn, fn->rcec + 2, 2, PCI_RCEC_BUSN_REG_VER, 0, 0);
	pci_sim_def(fn, fn->rcec + PCI_RCEC_RCIEP_BITMAP, 4,
		    fn->node->associated, 0, 0);
	/* No other bus */
	pci_sim_def(fn, fn->rcec + PCI_RCEC_BUSN, 4, 0xff << 8, 0, 0);
	pci_sim_aer_add(fn);
}

static void pci_sim_init_switch_port(struct pci_sim_fn *fn)
{
	bool down = fn->kind == PCI_SIM_DOWNSTREAM;

	pci_sim_init_bridge(fn, down ? PCI_SIM_DEVICE_ID_DOWNSTREAM :
				       PCI_SIM_DEVICE_ID_UPSTREAM);
	pci_sim_init_exp(fn, down ? PCI_EXP_TYPE_DOWNSTREAM :
				    PCI_EXP_TYPE_UPSTREAM, false);
	pci_sim_init_link(fn, fn->exp, down);
	if (down)
		pci_sim_init_acs(fn);
	pci_sim_aer_add(fn);
}

/* Seen by software, but the engine sends no request with a PASID */
static void pci_sim_init_pasid(struct pci_sim_fn *fn)
{
	pci_sim_add_ext_cap(fn, PCI_EXT_CAP_ID_PASID, PCI_SIM_CAP_PASID);
	pci_sim_def(fn, PCI_SIM_CAP_PASID + PCI_PASID_CAP, 2,
		    FIELD_PREP(PCI_PASID_CAP_WIDTH, 20), 0, 0);
	pci_sim_def(fn, PCI_SIM_CAP_PASID + PCI_PASID_CTRL, 2, 0,
		    PCI_PASID_CTRL_ENABLE, 0);
}

static int pci_sim_init_endpoint(struct pci_sim_fn *fn)
{
	const struct pci_sim_node *node = fn->node;
	int ret;

	pci_sim_init_header(fn, PCI_SIM_DEVICE_ID_ENDPOINT,
			    PCI_CLASS_OTHERS << 16, PCI_HEADER_TYPE_NORMAL);
	pci_sim_def(fn, PCI_SUBSYSTEM_VENDOR_ID, 2, PCI_SIM_VENDOR_ID, 0, 0);
	pci_sim_def(fn, PCI_SUBSYSTEM_ID, 2, PCI_SIM_DEVICE_ID_ENDPOINT, 0, 0);
	pci_sim_init_bar(fn, PCI_SIM_DESC_BAR);
	pci_sim_init_bar(fn, PCI_SIM_MSIX_BAR);

	pci_sim_init_pm(fn, node->no_soft_reset);
	pci_sim_init_exp(fn, fn->kind == PCI_SIM_RCIEP ? PCI_EXP_TYPE_RC_END :
							 PCI_EXP_TYPE_ENDPOINT,
			 node->flr);
	if (fn->kind == PCI_SIM_ENDPOINT)
		pci_sim_init_link(fn, fn->exp, false);
	ret = pci_sim_msix_init(fn);
	if (ret)
		return ret;

	if (node->msi)
		pci_sim_msi_add(fn);
	if (node->af_flr) {
		pci_sim_add_cap(fn, PCI_CAP_ID_AF, PCI_SIM_CAP_AF);
		pci_sim_def(fn, PCI_SIM_CAP_AF + PCI_AF_LENGTH, 1,
			    PCI_CAP_AF_SIZEOF, 0, 0);
		pci_sim_def(fn, PCI_SIM_CAP_AF + PCI_AF_CAP, 1,
			    PCI_AF_CAP_TP | PCI_AF_CAP_FLR, 0, 0);
		pci_sim_set_trap(fn, PCI_SIM_CAP_AF + PCI_AF_CTRL,
				 PCI_SIM_CAP_AF + PCI_AF_CTRL,
				 pci_sim_af_write);
	}

	pci_sim_engine_add(fn);
	if (node->pasid)
		pci_sim_init_pasid(fn);
	ret = pci_sim_tph_init(fn);
	if (ret)
		return ret;

	pci_sim_aer_add(fn);
	return pci_sim_sriov_init(fn);
}

/* The IDs are in the PF, and so are the BARs and their enable bit */
static int pci_sim_init_vf(struct pci_sim_fn *fn)
{
	int ret;

	pci_sim_init_header(fn, 0xffff, PCI_CLASS_OTHERS << 16,
			    PCI_HEADER_TYPE_NORMAL);
	pci_sim_def(fn, PCI_VENDOR_ID, 2, 0xffff, 0, 0);
	pci_sim_def(fn, PCI_COMMAND, 2, 0, PCI_COMMAND_MASTER, 0);
	pci_sim_def(fn, PCI_CACHE_LINE_SIZE, 1, 0, 0, 0);
	pci_sim_def(fn, PCI_INTERRUPT_LINE, 1, 0, 0, 0);
	pci_sim_def(fn, PCI_SUBSYSTEM_VENDOR_ID, 2, PCI_SIM_VENDOR_ID, 0, 0);
	pci_sim_def(fn, PCI_SUBSYSTEM_ID, 2, PCI_SIM_DEVICE_ID_ENDPOINT, 0, 0);

	pci_sim_init_pm(fn, fn->node->no_soft_reset);
	pci_sim_init_vf_exp(fn);
	ret = pci_sim_msix_init(fn);
	if (ret)
		return ret;

	pci_sim_engine_add(fn);
	return pci_sim_tph_init(fn);
}

/**
 * pci_sim_fn_init() - fill the config space of a function
 * @fn: function, with its description
 *
 * Return: 0; -EINVAL if a capability does not fit; -ENOMEM.
 */
int pci_sim_fn_init(struct pci_sim_fn *fn)
{
	switch (fn->kind) {
	case PCI_SIM_ROOT_PORT:
		pci_sim_init_root_port(fn);
		return 0;
	case PCI_SIM_UPSTREAM:
	case PCI_SIM_DOWNSTREAM:
		pci_sim_init_switch_port(fn);
		return 0;
	case PCI_SIM_COLLECTOR:
		pci_sim_init_collector(fn);
		return 0;
	case PCI_SIM_VF:
		return pci_sim_init_vf(fn);
	default:
		return pci_sim_init_endpoint(fn);
	}
}
