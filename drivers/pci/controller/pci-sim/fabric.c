// SPDX-License-Identifier: GPL-2.0-only
/*
 * Simulated PCIe hierarchy for tests: the way of a request
 */
#include <linux/bitfield.h>
#include <linux/io.h>
#include <linux/lockdep.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/sizes.h>

#include "pci-sim.h"

static u32 pci_sim_completer(struct pci_sim_fn *fn)
{
	return FIELD_GET(PCI_EXP_DEVCAP2_TPH_COMP_MASK,
			 pci_sim_get32(fn, fn->exp + PCI_EXP_DEVCAP2));
}

static void pci_sim_drop_hints(struct pci_sim_record *rec)
{
	rec->flags &= ~(PCI_SIM_RECORD_TH | PCI_SIM_RECORD_PREFIX);
	rec->st = 0;
	rec->ph = 0;
}

static bool pci_sim_window_hit(struct pci_sim_fn *bridge, u64 addr)
{
	u32 mem = pci_sim_get32(bridge, PCI_MEMORY_BASE);
	u64 base = (u64)(mem & 0xfff0) << 16;
	u64 limit = (mem & 0xfff00000) | 0xfffff;

	return addr >= base && addr <= limit;
}

/* A function is operational in D0, and a VF only if its PF is, too */
static bool pci_sim_is_up(struct pci_sim_fn *fn)
{
	return pci_sim_exists(fn) && pci_sim_in_d0(fn) &&
	       (!fn->pf || pci_sim_in_d0(fn->pf));
}

static bool pci_sim_decodes(struct pci_sim_fn *fn)
{
	struct pci_sim_fn *pf = fn->pf;

	if (!pci_sim_is_up(fn))
		return false;
	if (pf)
		return pci_sim_get16(pf, pf->sriov + PCI_SRIOV_CTRL) &
		       PCI_SRIOV_CTRL_MSE;
	return pci_sim_get16(fn, PCI_COMMAND) & PCI_COMMAND_MEMORY;
}

static bool pci_sim_bar_hit(struct pci_sim_fn *fn, u64 addr)
{
	unsigned int bar;
	u64 base;

	for (bar = 0; bar < PCI_SIM_NR_BARS; bar++) {
		base = fn->pf ? pci_sim_vf_bar(fn, bar) :
		       pci_sim_get32(fn, PCI_BASE_ADDRESS_0 + 4 * bar) &
		       PCI_BASE_ADDRESS_MEM_MASK;
		if (base && base == fn->bar[bar] && addr >= base &&
		    addr < base + PCI_SIM_BAR_SIZE)
			return true;
	}

	return false;
}

/*
 * Find who claims @addr among @fns, what is below them and their VFs. A request
 * does not leave through @ingress, the port that it came in by.
 */
static struct pci_sim_fn *pci_sim_claim(struct list_head *fns,
					const struct pci_sim_fn *ingress,
					u64 addr)
{
	struct pci_sim_fn *fn, *target;

	list_for_each_entry(fn, fns, siblings) {
		if (fn == ingress)
			continue;

		if (pci_sim_is_bridge(fn)) {
			if (!pci_sim_decodes(fn) ||
			    !pci_sim_bridge_forwards(fn) ||
			    !pci_sim_window_hit(fn, addr))
				continue;
		} else if (pci_sim_decodes(fn) && pci_sim_bar_hit(fn, addr)) {
			return fn;
		}

		target = pci_sim_claim(&fn->children, ingress, addr);
		if (target)
			return target;
	}

	return NULL;
}

/*
 * Over the link above @fn. In Flit Mode a 16-bit tag is in the header, else it
 * needs a TLP Prefix that the one side may send and the other one understands.
 */
static enum pci_sim_fate pci_sim_cross_link(struct pci_sim_fn *fn, bool up,
					    const struct pci_sim_record *rec)
{
	struct pci_sim_fn *egress = up ? fn : fn->parent;
	struct pci_sim_fn *ingress = up ? fn->parent : fn;

	if (!(rec->flags & PCI_SIM_RECORD_PREFIX))
		return PCI_SIM_FATE_OK;

	/* There is no link inside a switch */
	if (fn->parent->kind == PCI_SIM_UPSTREAM || fn->parent->node->flit)
		return PCI_SIM_FATE_OK;

	if (pci_sim_get16(egress, egress->exp + PCI_EXP_DEVCTL2) &
	    PCI_EXP_DEVCTL2_EE_PREFIX_BLOCK)
		return PCI_SIM_FATE_BLOCKED;

	if (!(pci_sim_get32(ingress, ingress->exp + PCI_EXP_DEVCAP2) &
	      PCI_EXP_DEVCAP2_EE_PREFIX))
		return PCI_SIM_FATE_MALFORMED;

	return PCI_SIM_FATE_OK;
}

/* From @top, or from the root complex, down to @target */
static enum pci_sim_fate pci_sim_go_down(struct pci_sim_fn *top,
					 struct pci_sim_fn *target,
					 const struct pci_sim_record *rec)
{
	enum pci_sim_fate fate = PCI_SIM_FATE_OK;
	struct pci_sim_fn *fn;

	for (fn = target; !fate && fn->parent && fn->parent != top;
	     fn = fn->parent)
		fate = pci_sim_cross_link(fn, false, rec);

	return fate;
}

static enum pci_sim_fate pci_sim_complete_peer(struct pci_sim_fn *top,
					       struct pci_sim_fn *target,
					       struct pci_sim_record *rec,
					       u64 addr, void *data)
{
	void __iomem *mem = pci_sim_window_ptr(addr, rec->len);
	enum pci_sim_fate fate;

	rec->flags |= PCI_SIM_RECORD_PEER;
	rec->target = target->bdf;
	rec->phys = addr;

	fate = pci_sim_go_down(top, target, rec);
	if (fate)
		return fate;

	if (rec->flags & PCI_SIM_RECORD_PREFIX &&
	    !(target->parent && target->parent->node->flit) &&
	    pci_sim_completer(target) != PCI_EXP_DEVCAP2_TPH_COMP_EXT_TPH)
		return PCI_SIM_FATE_MALFORMED;
	if (!mem)
		return PCI_SIM_FATE_UNSUPPORTED;

	if (rec->type == PCI_SIM_TLP_MRD)
		memcpy_fromio(data, mem, rec->len);
	else
		memcpy_toio(mem, data, rec->len);
	return PCI_SIM_FATE_OK;
}

static enum pci_sim_fate pci_sim_complete_memory(struct pci_sim_record *rec,
						 phys_addr_t phys, void *data)
{
	struct page *page = pfn_to_online_page(PHYS_PFN(phys));

	rec->phys = phys;
	if (!page)
		return PCI_SIM_FATE_UNSUPPORTED;

	if (rec->type == PCI_SIM_TLP_MRD)
		memcpy(data, phys_to_virt(phys), rec->len);
	else
		memcpy(phys_to_virt(phys), data, rec->len);
	return PCI_SIM_FATE_OK;
}

/* A request to an address in the window, after translation */
static struct pci_sim_fn *pci_sim_claim_fabric(struct pci_sim_fn *fn, u64 addr)
{
	struct pci_sim_fabric *fabric = fn->node->fabric;
	struct pci_sim_fn *target;
	struct pci_sim_host *host;

	list_for_each_entry(host, &pci_sim_hosts, list) {
		if (host->node->fabric != fabric)
			continue;
		target = pci_sim_claim(&host->fns, NULL, addr);
		if (target)
			return target;
	}

	return NULL;
}

/* The request has arrived at the root complex, through @port if it has one */
static enum pci_sim_fate pci_sim_root_complex(struct pci_sim_fn *fn,
					      struct pci_sim_fn *port,
					      struct pci_sim_record *rec,
					      void *data)
{
	enum pci_sim_fate fate;
	struct pci_sim_fn *target;
	bool dropped = false;
	phys_addr_t phys;

	if (port) {
		u32 completer = pci_sim_completer(port);

		if (rec->flags & PCI_SIM_RECORD_PREFIX && !port->node->flit &&
		    completer != PCI_EXP_DEVCAP2_TPH_COMP_EXT_TPH)
			return PCI_SIM_FATE_MALFORMED;

		if (rec->flags & PCI_SIM_RECORD_TH &&
		    (!port->node->forward_hints ||
		     (completer != PCI_EXP_DEVCAP2_TPH_COMP_TPH_ONLY &&
		      completer != PCI_EXP_DEVCAP2_TPH_COMP_EXT_TPH))) {
			pci_sim_drop_hints(rec);
			dropped = true;
		}
	}

	if (rec->type != PCI_SIM_TLP_MRD && rec->len == sizeof(__le32) &&
	    rec->addr >= PCI_SIM_MSI_START &&
	    rec->addr < PCI_SIM_MSI_START + PCI_SIM_MSI_SIZE)
		return pci_sim_msi_receive(fn->host, fn->bdf,
					   le32_to_cpup(data)) ?
		       PCI_SIM_FATE_OK : PCI_SIM_FATE_UNSUPPORTED;

	if (!pci_sim_translate(fn, rec->addr, rec->type != PCI_SIM_TLP_MRD,
			       &phys))
		return PCI_SIM_FATE_TRANSLATION;

	if (pci_sim_window_ptr(phys, 1)) {
		target = pci_sim_claim_fabric(fn, phys);
		if (!target)
			return PCI_SIM_FATE_UNSUPPORTED;
		fate = pci_sim_complete_peer(NULL, target, rec, phys, data);
	} else {
		fate = pci_sim_complete_memory(rec, phys, data);
	}

	if (fate == PCI_SIM_FATE_OK && dropped)
		fate = PCI_SIM_FATE_HINTS_DROPPED;
	return fate;
}

/* Up through the bridges; a bridge without ACS turns to a peer by itself */
static enum pci_sim_fate pci_sim_route(struct pci_sim_fn *fn,
				       struct pci_sim_record *rec, void *data)
{
	struct pci_sim_fn *port = fn, *bridge, *target;
	enum pci_sim_fate fate;

	for (bridge = fn->parent; bridge; bridge = bridge->parent) {
		if (!(pci_sim_get16(bridge, PCI_COMMAND) &
		      PCI_COMMAND_MASTER) || !pci_sim_bridge_forwards(bridge))
			return PCI_SIM_FATE_UNSUPPORTED;

		fate = pci_sim_cross_link(port, true, rec);
		if (fate)
			return fate;

		port = bridge;
		if (bridge->kind != PCI_SIM_DOWNSTREAM || bridge->node->acs)
			continue;

		target = pci_sim_claim(&bridge->parent->children, bridge,
				       rec->addr);
		if (target)
			return pci_sim_complete_peer(bridge->parent, target,
						     rec, rec->addr, data);
	}

	return pci_sim_root_complex(fn, port == fn ? NULL : port, rec, data);
}

/**
 * pci_sim_send() - send a request of a function, and record it
 * @fn: requester
 * @tlp: the request
 * @data: data to write, or room for the data that is read
 *
 * Return: what became of it.
 */
enum pci_sim_fate pci_sim_send(struct pci_sim_fn *fn,
			       const struct pci_sim_tlp *tlp, void *data)
{
	struct pci_sim_record rec = {
		.type = tlp->type,
		.addr = tlp->addr,
		.len = tlp->len,
		.value = tlp->type == PCI_SIM_TLP_MSI ? tlp->vector : 0,
	};

	lockdep_assert_held(&pci_sim_lock);

	/* Only the page of the first byte is translated */
	if (WARN_ON_ONCE(tlp->addr % SZ_4K + tlp->len > SZ_4K))
		return PCI_SIM_FATE_NOT_SENT;

	pci_sim_tph_hints(fn, tlp, &rec);
	if (pci_sim_get16(fn, PCI_COMMAND) & PCI_COMMAND_MASTER &&
	    pci_sim_is_up(fn))
		rec.fate = pci_sim_route(fn, &rec, data);
	else
		rec.fate = PCI_SIM_FATE_NOT_SENT;

	pci_sim_record(fn, &rec);
	return rec.fate;
}
