// SPDX-License-Identifier: GPL-2.0-only
/*
 * Simulated PCIe hierarchy for tests: TPH
 */
#include <linux/bitfield.h>
#include <linux/io.h>
#include <linux/lockdep.h>
#include <linux/slab.h>

#include "pci-sim.h"

#define PCI_SIM_TPH_CTRL_RW	(PCI_TPH_CTRL_MODE_SEL_MASK | \
				 PCI_TPH_CTRL_REQ_EN_MASK)

static u32 pci_sim_tph_cap(struct pci_sim_fn *fn)
{
	return pci_sim_get32(fn, fn->tph + PCI_TPH_CAP);
}

/* Where the next capability, or the end of config space, limits the table */
static unsigned int pci_sim_tph_end(struct pci_sim_fn *fn)
{
	return fn->tph < PCI_SIM_CAP_AER ? PCI_SIM_CAP_AER :
					   PCI_CFG_SPACE_EXP_SIZE;
}

static u8 pci_sim_tph_req_en(u32 ctrl)
{
	return FIELD_GET(PCI_TPH_CTRL_REQ_EN_MASK, ctrl);
}

/**
 * pci_sim_st_entries() - size of the ST table that really exists
 * @fn: function
 *
 * Return: number of entries, 0 if there is no table.
 */
unsigned int pci_sim_st_entries(struct pci_sim_fn *fn)
{
	unsigned int first = fn->tph + PCI_TPH_BASE_SIZEOF;
	u32 cap;

	if (!fn->tph)
		return 0;

	cap = pci_sim_tph_cap(fn);
	switch (cap & PCI_TPH_CAP_LOC_MASK) {
	case PCI_TPH_LOC_CAP:
		return min_t(unsigned int,
			     FIELD_GET(PCI_TPH_CAP_ST_MASK, cap) + 1,
			     (pci_sim_tph_end(fn) - first) / 2);
	case PCI_TPH_LOC_MSIX:
		return fn->nr_msix;
	default:
		return 0;
	}
}

/**
 * pci_sim_st_entry() - entry of the ST table
 * @fn: function
 * @index: entry
 *
 * Return: the Steering Tag, 0 if there is no such entry.
 */
u16 pci_sim_st_entry(struct pci_sim_fn *fn, unsigned int index)
{
	lockdep_assert_held(&pci_sim_lock);

	if (index >= pci_sim_st_entries(fn))
		return 0;

	if ((pci_sim_tph_cap(fn) & PCI_TPH_CAP_LOC_MASK) == PCI_TPH_LOC_CAP)
		return pci_sim_get16(fn, fn->tph + PCI_TPH_BASE_SIZEOF +
					 2 * index);

	if (!fn->bar[PCI_SIM_MSIX_BAR])
		return 0;

	return pci_sim_msix_vctrl(fn, index) >> 16;
}

static void pci_sim_violation(struct pci_sim_fn *fn,
			      enum pci_sim_violation violation, u64 addr)
{
	struct pci_sim_record rec = {
		.type = PCI_SIM_VIOLATION,
		.addr = addr,
		.value = violation,
	};

	pci_sim_record(fn, &rec);
}

/*
 * Writes to the MSI-X table cannot be seen, so look at the Steering Tags in it
 * when requests with them begin and end.
 */
static void pci_sim_tph_snapshot(struct pci_sim_fn *fn)
{
	unsigned int i;

	for (i = 0; fn->st_snapshot && i < pci_sim_st_entries(fn); i++)
		fn->st_snapshot[i] = pci_sim_st_entry(fn, i);
}

static void pci_sim_tph_compare(struct pci_sim_fn *fn)
{
	unsigned int i;

	for (i = 0; fn->st_snapshot && i < pci_sim_st_entries(fn); i++)
		if (fn->st_snapshot[i] != pci_sim_st_entry(fn, i))
			pci_sim_violation(fn, PCI_SIM_VIOLATION_ST_MSIX, i);
}

static bool pci_sim_st_in_msix(struct pci_sim_fn *fn)
{
	return (pci_sim_tph_cap(fn) & PCI_TPH_CAP_LOC_MASK) ==
	       PCI_TPH_LOC_MSIX;
}

/* Do requests have hints? Not with what the capability does not offer */
static bool pci_sim_tph_allowed(struct pci_sim_fn *fn, u32 ctrl)
{
	u32 cap = pci_sim_tph_cap(fn);
	u32 modes = cap & (PCI_TPH_CAP_ST_NS | PCI_TPH_CAP_ST_IV |
			   PCI_TPH_CAP_ST_DS);

	if (!(modes & BIT(FIELD_GET(PCI_TPH_CTRL_MODE_SEL_MASK, ctrl))))
		return false;

	return pci_sim_tph_req_en(ctrl) == PCI_TPH_REQ_TPH_ONLY ||
	       (pci_sim_tph_req_en(ctrl) == PCI_TPH_REQ_EXT_TPH &&
		cap & PCI_TPH_CAP_EXT_TPH);
}

static void pci_sim_tph_ctrl_write(struct pci_sim_fn *fn, unsigned int reg,
				   u32 old, u32 val, u32 mask)
{
	u32 ctrl = pci_sim_get32(fn, reg);

	if (pci_sim_tph_req_en(ctrl) && !pci_sim_tph_allowed(fn, ctrl))
		pci_sim_violation(fn, PCI_SIM_VIOLATION_TPH_CTRL, reg);

	if (!pci_sim_st_in_msix(fn))
		return;

	if (pci_sim_tph_req_en(old))
		pci_sim_tph_compare(fn);
	if (pci_sim_tph_req_en(ctrl))
		pci_sim_tph_snapshot(fn);
}

static void pci_sim_tph_st_write(struct pci_sim_fn *fn, unsigned int reg,
				 u32 old, u32 val, u32 mask)
{
	if (pci_sim_tph_req_en(pci_sim_get32(fn, fn->tph + PCI_TPH_CTRL)))
		pci_sim_violation(fn, PCI_SIM_VIOLATION_ST_CAP, reg);
}

/**
 * pci_sim_tph_init() - add the TPH Requester capability
 * @fn: function
 *
 * Return: 0; -EINVAL if it does not fit; -ENOMEM.
 */
int pci_sim_tph_init(struct pci_sim_fn *fn)
{
	const struct pci_sim_node *node = fn->node;
	unsigned int i, entries, where;

	if (!node->tph)
		return 0;

	fn->tph = node->tph_pos ?: PCI_SIM_CAP_TPH;
	if (!IS_ALIGNED(fn->tph, 4) ||
	    fn->tph < PCI_SIM_CAP_VSEC + PCI_SIM_VSEC_LEN ||
	    (fn->tph >= PCI_SIM_CAP_AER && fn->tph < PCI_SIM_CAP_SRIOV_END) ||
	    fn->tph + PCI_TPH_BASE_SIZEOF > pci_sim_tph_end(fn))
		return -EINVAL;

	pci_sim_add_ext_cap(fn, PCI_EXT_CAP_ID_TPH, fn->tph);
	pci_sim_def(fn, fn->tph + PCI_TPH_CAP, 4,
		    node->tph_modes |
		    (node->tph_ext ? PCI_TPH_CAP_EXT_TPH : 0) |
		    FIELD_PREP(PCI_TPH_CAP_LOC_MASK, node->tph_loc) |
		    FIELD_PREP(PCI_TPH_CAP_ST_MASK, node->tph_st_size), 0, 0);
	pci_sim_def(fn, fn->tph + PCI_TPH_CTRL, 4, 0, PCI_SIM_TPH_CTRL_RW, 0);
	pci_sim_set_trap(fn, fn->tph + PCI_TPH_CTRL, fn->tph + PCI_TPH_CTRL,
			 pci_sim_tph_ctrl_write);

	entries = pci_sim_st_entries(fn);
	if (pci_sim_st_in_msix(fn)) {
		fn->st_snapshot = kcalloc(max(entries, 1),
					  sizeof(*fn->st_snapshot), GFP_KERNEL);
		return fn->st_snapshot ? 0 : -ENOMEM;
	}
	if (!entries)
		return 0;

	where = fn->tph + PCI_TPH_BASE_SIZEOF;
	for (i = 0; i < entries; i++)
		pci_sim_def(fn, where + 2 * i, 2, 0,
			    node->tph_ext ? 0xffff : 0x00ff, 0);
	pci_sim_set_trap(fn, where, where + 2 * (entries - 1),
			 pci_sim_tph_st_write);
	return 0;
}

/**
 * pci_sim_tph_reset() - look at the ST table before a reset clears it
 * @fn: function
 */
void pci_sim_tph_reset(struct pci_sim_fn *fn)
{
	lockdep_assert_held(&pci_sim_lock);

	if (fn->tph && pci_sim_st_in_msix(fn) &&
	    pci_sim_tph_req_en(pci_sim_get32(fn, fn->tph + PCI_TPH_CTRL)))
		pci_sim_tph_compare(fn);
}

/**
 * pci_sim_tph_hints() - put hints into a request, PCIe r6.2, sec 6.17
 * @fn: requester
 * @tlp: request
 * @rec: its record, which gets the hints
 */
void pci_sim_tph_hints(struct pci_sim_fn *fn, const struct pci_sim_tlp *tlp,
		       struct pci_sim_record *rec)
{
	u32 ctrl, loc;

	if (!fn->tph || tlp->type == PCI_SIM_TLP_MSI)
		return;

	ctrl = pci_sim_get32(fn, fn->tph + PCI_TPH_CTRL);
	if (!pci_sim_tph_allowed(fn, ctrl))
		return;

	loc = pci_sim_tph_cap(fn) & PCI_TPH_CAP_LOC_MASK;
	switch (FIELD_GET(PCI_TPH_CTRL_MODE_SEL_MASK, ctrl)) {
	case PCI_TPH_ST_NS_MODE:
		rec->st = 0;
		break;
	case PCI_TPH_ST_IV_MODE:
		rec->st = pci_sim_st_entry(fn, tlp->vector);
		break;
	case PCI_TPH_ST_DS_MODE:
		if (loc == PCI_TPH_LOC_CAP || loc == PCI_TPH_LOC_MSIX)
			rec->st = pci_sim_st_entry(fn, tlp->vector);
		else
			rec->st = tlp->st;
		break;
	}

	rec->flags |= PCI_SIM_RECORD_TH;
	if (pci_sim_tph_req_en(ctrl) == PCI_TPH_REQ_EXT_TPH)
		rec->flags |= PCI_SIM_RECORD_PREFIX;
	else
		rec->st &= 0xff;
	rec->ph = tlp->ph;
}
