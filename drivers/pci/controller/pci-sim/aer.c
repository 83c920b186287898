// SPDX-License-Identifier: GPL-2.0-only
/*
 * Simulated PCIe hierarchy for tests: Advanced Error Reporting
 *
 * An error is logged in the registers of the function that detected it. Its
 * message goes up to the Root Port, or from a Root Complex Integrated Endpoint
 * to its Root Complex Event Collector, is logged there too, and raises the
 * interrupt (PCIe r6.2, sec 6.2). Each mask and enable bit on the way counts.
 */
#include <linux/lockdep.h>

#include "pci-sim.h"

/* Errors that all kinds of functions have, with their default severity */
#define PCI_SIM_COR_ERROR	PCI_ERR_COR_RCVR
#define PCI_SIM_NONFATAL_ERROR	PCI_ERR_UNC_COMP_TIME
#define PCI_SIM_FATAL_ERROR	PCI_ERR_UNC_MALF_TLP

#define PCI_SIM_COR_BITS	(PCI_ERR_COR_RCVR | PCI_ERR_COR_BAD_TLP | \
				 PCI_ERR_COR_BAD_DLLP | \
				 PCI_ERR_COR_REP_ROLL | \
				 PCI_ERR_COR_REP_TIMER | \
				 PCI_ERR_COR_ADV_NFAT)
#define PCI_SIM_UNCOR_BITS	(PCI_ERR_UNC_DLP | PCI_ERR_UNC_POISON_TLP | \
				 PCI_ERR_UNC_FCP | PCI_ERR_UNC_COMP_TIME | \
				 PCI_ERR_UNC_COMP_ABORT | \
				 PCI_ERR_UNC_UNX_COMP | PCI_ERR_UNC_RX_OVER | \
				 PCI_ERR_UNC_MALF_TLP | PCI_ERR_UNC_UNSUP)
#define PCI_SIM_UNCOR_SEVER	(PCI_ERR_UNC_DLP | PCI_ERR_UNC_FCP | \
				 PCI_ERR_UNC_RX_OVER | PCI_ERR_UNC_MALF_TLP)

static u32 *pci_sim_aer_reg(struct pci_sim_fn *fn, unsigned int offset)
{
	return &fn->reg[(fn->aer + offset) / 4].value;
}

static void pci_sim_set_status(struct pci_sim_fn *fn, unsigned int where,
			       u16 bits)
{
	fn->reg[where / 4].value |= (u32)bits << (8 * (where & 2));
}

/*
 * Root Ports and Root Complex Event Collectors
 */

static bool pci_sim_aer_pending(u32 command, u32 status)
{
	return (command & PCI_ERR_ROOT_CMD_COR_EN &&
		status & PCI_ERR_ROOT_COR_RCV) ||
	       (command & PCI_ERR_ROOT_CMD_NONFATAL_EN &&
		status & PCI_ERR_ROOT_NONFATAL_RCV) ||
	       (command & PCI_ERR_ROOT_CMD_FATAL_EN &&
		status & PCI_ERR_ROOT_FATAL_RCV);
}

/* A message is sent when there begins to be a reason for one, sec 6.2.4.1.2 */
static void pci_sim_aer_root_command(struct pci_sim_fn *fn, unsigned int reg,
				     u32 old, u32 val, u32 mask)
{
	u32 status = *pci_sim_aer_reg(fn, PCI_ERR_ROOT_STATUS);

	if (!pci_sim_aer_pending(old, status) &&
	    pci_sim_aer_pending(pci_sim_get32(fn, reg), status))
		pci_sim_irq_raise(fn, 0);
}

static void pci_sim_aer_receive(struct pci_sim_fn *root, u16 source,
				enum pci_sim_error error)
{
	u32 command = *pci_sim_aer_reg(root, PCI_ERR_ROOT_COMMAND);
	u32 *status = pci_sim_aer_reg(root, PCI_ERR_ROOT_STATUS);
	u32 *sources = pci_sim_aer_reg(root, PCI_ERR_ROOT_ERR_SRC);
	bool pending = pci_sim_aer_pending(command, *status);

	if (error == PCI_SIM_ERROR_COR) {
		if (*status & PCI_ERR_ROOT_COR_RCV)
			*status |= PCI_ERR_ROOT_MULTI_COR_RCV;
		else
			*sources = (*sources & ~0xffff) | source;
		*status |= PCI_ERR_ROOT_COR_RCV;
	} else {
		if (*status & PCI_ERR_ROOT_UNCOR_RCV) {
			*status |= PCI_ERR_ROOT_MULTI_UNCOR_RCV;
		} else {
			*sources = (*sources & 0xffff) | (u32)source << 16;
			if (error == PCI_SIM_ERROR_FATAL)
				*status |= PCI_ERR_ROOT_FIRST_FATAL;
		}
		*status |= PCI_ERR_ROOT_UNCOR_RCV |
			   (error == PCI_SIM_ERROR_FATAL ?
			    PCI_ERR_ROOT_FATAL_RCV : PCI_ERR_ROOT_NONFATAL_RCV);
	}

	if (!pending && pci_sim_aer_pending(command, *status))
		pci_sim_irq_raise(root, 0);
}

static struct pci_sim_fn *pci_sim_collector(struct pci_sim_fn *rciep)
{
	struct pci_sim_fn *fn;
	u32 bitmap;

	list_for_each_entry(fn, &rciep->host->fns, siblings) {
		if (fn->kind != PCI_SIM_COLLECTOR)
			continue;

		bitmap = pci_sim_get32(fn, fn->rcec + PCI_RCEC_RCIEP_BITMAP);
		if (bitmap & BIT(PCI_SLOT(rciep->devfn)))
			return fn;
	}

	return NULL;
}

/*
 * From the function that detected the error to the root
 */

/* May @fn send or pass on messages of this kind? */
static bool pci_sim_reports(struct pci_sim_fn *fn, enum pci_sim_error error)
{
	u16 devctl = pci_sim_get16(fn, fn->exp + PCI_EXP_DEVCTL);
	u16 command = pci_sim_get16(fn, PCI_COMMAND);

	switch (error) {
	case PCI_SIM_ERROR_COR:
		return devctl & PCI_EXP_DEVCTL_CERE;
	case PCI_SIM_ERROR_NONFATAL:
		return devctl & PCI_EXP_DEVCTL_NFERE ||
		       command & PCI_COMMAND_SERR;
	default:
		return devctl & PCI_EXP_DEVCTL_FERE ||
		       command & PCI_COMMAND_SERR;
	}
}

static bool pci_sim_bridge_passes(struct pci_sim_fn *bridge,
				  enum pci_sim_error error)
{
	if (!pci_sim_bridge_forwards(bridge) ||
	    !(pci_sim_get16(bridge, PCI_BRIDGE_CONTROL) & PCI_BRIDGE_CTL_SERR))
		return false;

	if (error == PCI_SIM_ERROR_COR)
		return true;

	pci_sim_set_status(bridge, PCI_SEC_STATUS, PCI_STATUS_SIG_SYSTEM_ERROR);
	return pci_sim_reports(bridge, error);
}

/* Find the way of a message, and what logs it in the end */
static enum pci_sim_fate pci_sim_route_error(struct pci_sim_fn *fn,
					     enum pci_sim_error error,
					     struct pci_sim_fn **root)
{
	struct pci_sim_fn *bridge;

	if (!pci_sim_reports(fn, error))
		return PCI_SIM_FATE_NOT_SENT;

	if (error != PCI_SIM_ERROR_COR &&
	    pci_sim_get16(fn, PCI_COMMAND) & PCI_COMMAND_SERR)
		pci_sim_set_status(fn, PCI_STATUS, PCI_STATUS_SIG_SYSTEM_ERROR);

	*root = fn->kind == PCI_SIM_RCIEP ? pci_sim_collector(fn) : fn;
	for (bridge = fn->parent; bridge; bridge = bridge->parent) {
		if (!pci_sim_bridge_passes(bridge, error))
			return PCI_SIM_FATE_BLOCKED;
		*root = bridge;
	}

	return *root && (*root)->aer ? PCI_SIM_FATE_OK :
				       PCI_SIM_FATE_UNSUPPORTED;
}

/* Log an uncorrectable error, and tell its severity */
static enum pci_sim_error pci_sim_log_uncor(struct pci_sim_fn *fn, u32 bit)
{
	u32 mask = *pci_sim_aer_reg(fn, PCI_ERR_UNCOR_MASK);
	u32 *status = pci_sim_aer_reg(fn, PCI_ERR_UNCOR_STATUS);
	u32 *control = pci_sim_aer_reg(fn, PCI_ERR_CAP);

	/*
	 * The First Error Pointer is valid while its bit is set, and is not for
	 * errors that are masked, sec 6.2.3.2.2
	 */
	if (!(mask & bit) && !(*status & BIT(PCI_ERR_CAP_FEP(*control))))
		*control = (*control & ~0x1f) | __ffs(bit);
	*status |= bit;

	return *pci_sim_aer_reg(fn, PCI_ERR_UNCOR_SEVER) & bit ?
	       PCI_SIM_ERROR_FATAL : PCI_SIM_ERROR_NONFATAL;
}

/**
 * pci_sim_aer_detect() - a function has detected an error
 * @fn: function, with AER capability
 * @error: severity that the error has by default; that in the Uncorrectable
 *	Error Severity register is decisive
 */
void pci_sim_aer_detect(struct pci_sim_fn *fn, enum pci_sim_error error)
{
	static const u16 devsta[] = {
		[PCI_SIM_ERROR_COR]		= PCI_EXP_DEVSTA_CED,
		[PCI_SIM_ERROR_NONFATAL]	= PCI_EXP_DEVSTA_NFED,
		[PCI_SIM_ERROR_FATAL]		= PCI_EXP_DEVSTA_FED,
	};
	struct pci_sim_record rec = {
		.type = PCI_SIM_ERROR,
		.fate = PCI_SIM_FATE_NOT_SENT,
	};
	struct pci_sim_fn *root;
	u32 bit, mask;

	lockdep_assert_held(&pci_sim_lock);

	if (error == PCI_SIM_ERROR_COR) {
		bit = PCI_SIM_COR_ERROR;
		mask = *pci_sim_aer_reg(fn, PCI_ERR_COR_MASK);
		*pci_sim_aer_reg(fn, PCI_ERR_COR_STATUS) |= bit;
	} else {
		bit = error == PCI_SIM_ERROR_FATAL ? PCI_SIM_FATAL_ERROR :
						     PCI_SIM_NONFATAL_ERROR;
		mask = *pci_sim_aer_reg(fn, PCI_ERR_UNCOR_MASK);
		error = pci_sim_log_uncor(fn, bit);
	}

	pci_sim_set_status(fn, fn->exp + PCI_EXP_DEVSTA, devsta[error]);
	if (!(mask & bit))
		rec.fate = pci_sim_route_error(fn, error, &root);

	rec.value = error;
	pci_sim_record(fn, &rec);
	if (rec.fate == PCI_SIM_FATE_OK)
		pci_sim_aer_receive(root, fn->bdf, error);
}

/*
 * The capability
 */

/* What happened, and how it is to be reported, outlives all resets */
static void pci_sim_def_sticky(struct pci_sim_fn *fn, unsigned int offset,
			       u32 value, u32 rw, u32 w1c)
{
	pci_sim_def(fn, fn->aer + offset, 4, value, rw, w1c);
	fn->reg[(fn->aer + offset) / 4].sticky = ~0;
}

static void pci_sim_add_root_aer(struct pci_sim_fn *fn)
{
	pci_sim_def(fn, fn->aer + PCI_ERR_ROOT_COMMAND, 4, 0,
		    PCI_ERR_ROOT_CMD_COR_EN | PCI_ERR_ROOT_CMD_NONFATAL_EN |
		    PCI_ERR_ROOT_CMD_FATAL_EN, 0);
	pci_sim_set_trap(fn, fn->aer + PCI_ERR_ROOT_COMMAND,
			 fn->aer + PCI_ERR_ROOT_COMMAND,
			 pci_sim_aer_root_command);
	pci_sim_def_sticky(fn, PCI_ERR_ROOT_STATUS, 0, 0,
			   PCI_ERR_ROOT_COR_RCV | PCI_ERR_ROOT_MULTI_COR_RCV |
			   PCI_ERR_ROOT_UNCOR_RCV |
			   PCI_ERR_ROOT_MULTI_UNCOR_RCV |
			   PCI_ERR_ROOT_FIRST_FATAL |
			   PCI_ERR_ROOT_NONFATAL_RCV | PCI_ERR_ROOT_FATAL_RCV);
	pci_sim_def_sticky(fn, PCI_ERR_ROOT_ERR_SRC, 0, 0, 0);
}

/**
 * pci_sim_aer_add() - add the AER capability, if the function is to have it
 * @fn: function
 *
 * The header log is always 0.
 */
void pci_sim_aer_add(struct pci_sim_fn *fn)
{
	if (!fn->node->aer)
		return;

	/* The list begins at PCI_CFG_SPACE_SIZE */
	fn->aer = fn->last_ext_cap ? PCI_SIM_CAP_AER : PCI_CFG_SPACE_SIZE;
	pci_sim_add_ext_cap(fn, PCI_EXT_CAP_ID_ERR, fn->aer);
	pci_sim_def_sticky(fn, PCI_ERR_UNCOR_STATUS, 0, 0, PCI_SIM_UNCOR_BITS);
	pci_sim_def_sticky(fn, PCI_ERR_UNCOR_MASK, 0, PCI_SIM_UNCOR_BITS, 0);
	pci_sim_def_sticky(fn, PCI_ERR_UNCOR_SEVER, PCI_SIM_UNCOR_SEVER,
			   PCI_SIM_UNCOR_BITS, 0);
	pci_sim_def_sticky(fn, PCI_ERR_COR_STATUS, 0, 0, PCI_SIM_COR_BITS);
	pci_sim_def_sticky(fn, PCI_ERR_COR_MASK, PCI_ERR_COR_ADV_NFAT,
			   PCI_SIM_COR_BITS, 0);
	pci_sim_def_sticky(fn, PCI_ERR_CAP, 0, 0, 0);
	if (fn->kind == PCI_SIM_ROOT_PORT || fn->kind == PCI_SIM_COLLECTOR)
		pci_sim_add_root_aer(fn);
}
