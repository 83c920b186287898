// SPDX-License-Identifier: GPL-2.0-only
/*
 * Simulated PCIe hierarchy for tests: SR-IOV
 *
 * The VFs of an endpoint are its functions 1 to 7, so they need no ARI. They are
 * created with the PF, and exist for others as VF Enable and NumVFs say.
 */
#include <linux/lockdep.h>

#include "pci-sim.h"

#define PCI_SIM_VF_OFFSET	1
#define PCI_SIM_VF_STRIDE	1
#define PCI_SIM_PAGE_SIZES	0x553	/* those that all PFs have to support */
#define PCI_SIM_PAGE_SIZE_4K	0x001

/**
 * pci_sim_vf_bar() - address in a BAR of a VF
 * @vf: VF
 * @bar: BAR
 *
 * Return: the address that follows from the VF BAR of the PF, or 0.
 */
u32 pci_sim_vf_bar(const struct pci_sim_fn *vf, unsigned int bar)
{
	u32 base = pci_sim_get32(vf->pf, vf->pf->sriov + PCI_SRIOV_BAR +
					 4 * bar) & PCI_BASE_ADDRESS_MEM_MASK;

	return base ? base + vf->node->number * PCI_SIM_BAR_SIZE : 0;
}

/**
 * pci_sim_set_vfs() - let VFs appear, or disappear
 * @pf: PF
 * @nr_vfs: VFs that are to exist
 */
void pci_sim_set_vfs(struct pci_sim_fn *pf, u16 nr_vfs)
{
	struct pci_sim_fn *vf;

	lockdep_assert_held(&pci_sim_lock);

	list_for_each_entry(vf, &pf->children, siblings) {
		if (pci_sim_exists(vf))
			pci_sim_fn_reset(vf, PCI_SIM_RESET_PF);
		vf->bdf = pf->bdf + PCI_SIM_VF_OFFSET +
			  PCI_SIM_VF_STRIDE * vf->node->number;
	}
	pf->nr_vfs = nr_vfs;
}

static void pci_sim_sriov_ctrl_write(struct pci_sim_fn *pf, unsigned int reg,
				     u32 old, u32 val, u32 mask)
{
	u32 new = pci_sim_get32(pf, reg);

	if (!((old ^ new) & PCI_SRIOV_CTRL_VFE))
		return;

	pci_sim_set_vfs(pf, new & PCI_SRIOV_CTRL_VFE ?
			pci_sim_get16(pf, pf->sriov + PCI_SRIOV_NUM_VF) : 0);
}

static void pci_sim_vf_bar_write(struct pci_sim_fn *pf, unsigned int reg,
				 u32 old, u32 val, u32 mask)
{
	unsigned int bar = (reg - pf->sriov - PCI_SRIOV_BAR) / 4;
	struct pci_sim_fn *vf;

	list_for_each_entry(vf, &pf->children, siblings)
		pci_sim_place_bar(vf, bar, pci_sim_vf_bar(vf, bar));
}

static void pci_sim_init_vf_bar(struct pci_sim_fn *pf, unsigned int bar)
{
	u16 where = pf->sriov + PCI_SRIOV_BAR + 4 * bar;

	pci_sim_def(pf, where, 4, 0, ~(PCI_SIM_BAR_SIZE - 1), 0);
	pci_sim_set_trap(pf, where, where, pci_sim_vf_bar_write);
}

/**
 * pci_sim_sriov_init() - add the SR-IOV capability, if the function has VFs
 * @pf: function
 *
 * Return: 0; -EINVAL if the VFs are not numbered from 0 on, or have the numbers of
 * other functions.
 */
int pci_sim_sriov_init(struct pci_sim_fn *pf)
{
	unsigned int total = list_count_nodes(&pf->node->children);
	struct pci_sim_node *node;
	u16 sriov;

	if (!total)
		return 0;

	if (pci_sim_is_multifunction(pf))
		return -EINVAL;

	list_for_each_entry(node, &pf->node->children, siblings)
		if (node->number >= total)
			return -EINVAL;

	sriov = PCI_SIM_CAP_SRIOV;
	pf->sriov = sriov;
	pci_sim_add_ext_cap(pf, PCI_EXT_CAP_ID_SRIOV, sriov);
	pci_sim_def(pf, sriov + PCI_SRIOV_CTRL, 2, 0,
		    PCI_SRIOV_CTRL_VFE | PCI_SRIOV_CTRL_MSE, 0);
	pci_sim_set_trap(pf, sriov + PCI_SRIOV_CTRL, sriov + PCI_SRIOV_CTRL,
			 pci_sim_sriov_ctrl_write);
	pci_sim_def(pf, sriov + PCI_SRIOV_INITIAL_VF, 2, total, 0, 0);
	pci_sim_def(pf, sriov + PCI_SRIOV_TOTAL_VF, 2, total, 0, 0);
	pci_sim_def(pf, sriov + PCI_SRIOV_NUM_VF, 2, 0, 0xffff, 0);
	pci_sim_def(pf, sriov + PCI_SRIOV_VF_OFFSET, 2, PCI_SIM_VF_OFFSET, 0,
		    0);
	pci_sim_def(pf, sriov + PCI_SRIOV_VF_STRIDE, 2, PCI_SIM_VF_STRIDE, 0,
		    0);
	pci_sim_def(pf, sriov + PCI_SRIOV_VF_DID, 2, PCI_SIM_DEVICE_ID_ENDPOINT,
		    0, 0);
	pci_sim_def(pf, sriov + PCI_SRIOV_SUP_PGSIZE, 4, PCI_SIM_PAGE_SIZES, 0,
		    0);
	pci_sim_def(pf, sriov + PCI_SRIOV_SYS_PGSIZE, 4, PCI_SIM_PAGE_SIZE_4K,
		    PCI_SIM_PAGE_SIZES, 0);
	pci_sim_init_vf_bar(pf, PCI_SIM_DESC_BAR);
	pci_sim_init_vf_bar(pf, PCI_SIM_MSIX_BAR);
	return 0;
}
