// SPDX-License-Identifier: GPL-2.0-only
/*
 * Simulated PCIe hierarchy for tests: IOMMU
 *
 * One IOMMU behind all simulated host bridges, with page tables in memory as
 * an AMD IOMMU has them. It has no cache. Because a request of an endpoint
 * translates and copies under pci_sim_lock, taking the lock after a change
 * of the page table is what waiting for an invalidation is in hardware.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitfield.h>
#include <linux/cleanup.h>
#include <linux/generic_pt/iommu.h>
#include <linux/iommu.h>
#include <linux/lockdep.h>
#include <linux/mem_encrypt.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "../../../iommu/iommu-pages.h"
#include "pci-sim.h"

MODULE_IMPORT_NS("GENERIC_PT_IOMMU");

/* Entries of the page table, see AMD's specification of its IOMMU, 2.2.3 */
#define PCI_SIM_PTE_PRESENT	BIT_ULL(0)
#define PCI_SIM_PTE_NEXT_LEVEL	GENMASK_ULL(11, 9)
#define PCI_SIM_PTE_ADDR	GENMASK_ULL(51, 12)
#define PCI_SIM_PTE_READ	BIT_ULL(61)
#define PCI_SIM_PTE_WRITE	BIT_ULL(62)
#define PCI_SIM_NL_PAGE		0	/* page of the size of the level */
#define PCI_SIM_NL_SIZED	7	/* page with its size in the address */
#define PCI_SIM_LEVEL_BITS	9
#define PCI_SIM_LEVEL_ITEMS	BIT(PCI_SIM_LEVEL_BITS)

/**
 * struct pci_sim_domain - paging domain
 * @domain: for the IOMMU core
 * @iommu: for the page table
 * @amdv1: the page table
 * @top_lock: serializes changes of the root by the page table code
 * @root: address of the root
 * @levels: levels of the page table
 *
 * @root and @levels are protected by pci_sim_lock.
 */
struct pci_sim_domain {
	union {
		struct iommu_domain domain;
		struct pt_iommu iommu;
		struct pt_iommu_amdv1 amdv1;
	};
	spinlock_t top_lock;	/* while the root changes */
	phys_addr_t root;
	unsigned int levels;
};

PT_IOMMU_CHECK_DOMAIN(struct pci_sim_domain, iommu, domain);
PT_IOMMU_CHECK_DOMAIN(struct pci_sim_domain, amdv1.iommu, domain);

static struct iommu_device pci_sim_iommu;

static struct pci_sim_domain *to_pci_sim_domain(struct iommu_domain *domain)
{
	return container_of(domain, struct pci_sim_domain, domain);
}

static bool pci_sim_walk(struct pci_sim_domain *domain, u64 iova, u64 want,
			 phys_addr_t *phys)
{
	unsigned int level = domain->levels, shift, bits;
	phys_addr_t table = domain->root;
	u64 pte, addr;

	bits = PAGE_SHIFT + level * PCI_SIM_LEVEL_BITS;
	if (bits < 64 && iova >> bits)
		return false;

	for (;;) {
		shift = PAGE_SHIFT + (level - 1) * PCI_SIM_LEVEL_BITS;
		pte = READ_ONCE(((u64 *)phys_to_virt(table))
				[iova >> shift & (PCI_SIM_LEVEL_ITEMS - 1)]);
		if (!(pte & PCI_SIM_PTE_PRESENT) || !(pte & want))
			return false;

		addr = __sme_clr(pte) & PCI_SIM_PTE_ADDR;
		switch (FIELD_GET(PCI_SIM_PTE_NEXT_LEVEL, pte)) {
		case PCI_SIM_NL_PAGE:
			break;
		case PCI_SIM_NL_SIZED:
			/* The lowest 0 in the address tells half of the size */
			shift = PAGE_SHIFT + ffz(addr >> PAGE_SHIFT) + 1;
			break;
		default:
			/* A level may only have lower ones below it */
			if (FIELD_GET(PCI_SIM_PTE_NEXT_LEVEL, pte) >= level)
				return false;
			level = FIELD_GET(PCI_SIM_PTE_NEXT_LEVEL, pte);
			table = addr;
			continue;
		}

		*phys = (addr & ~(BIT_ULL(shift) - 1)) |
			(iova & (BIT_ULL(shift) - 1));
		return true;
	}
}

/**
 * pci_sim_translate() - translate the address of a request
 * @fn: requester
 * @addr: address on the bus
 * @write: the request writes
 * @phys: physical address
 *
 * The result is valid to the end of the 4 KB page as long as pci_sim_lock is
 * held.
 *
 * Return: false if the request is not allowed.
 */
bool pci_sim_translate(struct pci_sim_fn *fn, u64 addr, bool write,
		       phys_addr_t *phys)
{
	lockdep_assert_held(&pci_sim_lock);

	if (!fn->domain)
		return false;

	if (fn->domain->type == IOMMU_DOMAIN_IDENTITY) {
		*phys = addr;
		return true;
	}

	return pci_sim_walk(to_pci_sim_domain(fn->domain), addr,
			    write ? PCI_SIM_PTE_WRITE : PCI_SIM_PTE_READ, phys);
}

static void pci_sim_set_domain(struct device *dev, struct iommu_domain *domain)
{
	struct pci_sim_fn *fn = dev_iommu_priv_get(dev);

	guard(raw_spinlock_irqsave)(&pci_sim_lock);
	fn->domain = domain;
}

static int pci_sim_attach(struct iommu_domain *domain, struct device *dev,
			  struct iommu_domain *old)
{
	pci_sim_set_domain(dev, domain);
	return 0;
}

static int pci_sim_attach_blocked(struct iommu_domain *domain,
				  struct device *dev, struct iommu_domain *old)
{
	pci_sim_set_domain(dev, NULL);
	return 0;
}

static const struct iommu_domain_ops pci_sim_identity_ops = {
	.attach_dev	= pci_sim_attach,
};

static struct iommu_domain pci_sim_identity_domain = {
	.type	= IOMMU_DOMAIN_IDENTITY,
	.ops	= &pci_sim_identity_ops,
};

static const struct iommu_domain_ops pci_sim_blocked_ops = {
	.attach_dev	= pci_sim_attach_blocked,
};

static struct iommu_domain pci_sim_blocked_domain = {
	.type	= IOMMU_DOMAIN_BLOCKED,
	.ops	= &pci_sim_blocked_ops,
};

static void pci_sim_domain_free(struct iommu_domain *domain)
{
	struct pci_sim_domain *dom = to_pci_sim_domain(domain);

	pt_iommu_deinit(&dom->iommu);
	kfree(dom);
}

/* Any request that has used the page table as it was is finished after this */
static void pci_sim_flush(struct iommu_domain *domain)
{
	guard(raw_spinlock_irqsave)(&pci_sim_lock);
}

static void pci_sim_iotlb_sync(struct iommu_domain *domain,
			       struct iommu_iotlb_gather *gather)
{
	pci_sim_flush(domain);
	iommu_put_pages_list(&gather->freelist);
}

static const struct iommu_domain_ops pci_sim_paging_ops = {
	IOMMU_PT_DOMAIN_OPS(amdv1),
	.attach_dev		= pci_sim_attach,
	.flush_iotlb_all	= pci_sim_flush,
	.iotlb_sync		= pci_sim_iotlb_sync,
	.free			= pci_sim_domain_free,
};

static void pci_sim_change_top(struct pt_iommu *iommu, phys_addr_t top,
			       unsigned int top_level)
{
	struct pci_sim_domain *dom = container_of(iommu, struct pci_sim_domain,
						  iommu);

	guard(raw_spinlock_irqsave)(&pci_sim_lock);
	dom->root = top;
	dom->levels = top_level + 1;
}

static spinlock_t *pci_sim_top_lock(struct pt_iommu *iommu)
{
	return &container_of(iommu, struct pci_sim_domain, iommu)->top_lock;
}

static const struct pt_iommu_driver_ops pci_sim_pt_ops = {
	.change_top	= pci_sim_change_top,
	.get_top_lock	= pci_sim_top_lock,
};

static struct iommu_domain *pci_sim_alloc_paging(struct device *dev)
{
	struct pt_iommu_amdv1_cfg cfg = {
		.common = {
			.features = BIT(PT_FEAT_DYNAMIC_TOP) |
				    BIT(PT_FEAT_AMDV1_ENCRYPT_TABLES) |
				    BIT(PT_FEAT_AMDV1_FORCE_COHERENCE),
			.hw_max_vasz_lg2 = 64,
			.hw_max_oasz_lg2 = 52,
		},
		.starting_level = 2,
	};
	struct pt_iommu_amdv1_hw_info info;
	struct pci_sim_domain *dom;
	int ret;

	dom = kzalloc_obj(*dom);
	if (!dom)
		return ERR_PTR(-ENOMEM);

	spin_lock_init(&dom->top_lock);
	dom->domain.ops = &pci_sim_paging_ops;
	dom->iommu.driver_ops = &pci_sim_pt_ops;
	dom->iommu.nid = NUMA_NO_NODE;
	ret = pt_iommu_amdv1_init(&dom->amdv1, &cfg, GFP_KERNEL);
	if (ret) {
		kfree(dom);
		return ERR_PTR(ret);
	}

	pt_iommu_amdv1_hw_info(&dom->amdv1, &info);
	dom->root = info.host_pt_root;
	dom->levels = info.mode;
	return &dom->domain;
}

static bool pci_sim_capable(struct device *dev, enum iommu_cap cap)
{
	return cap == IOMMU_CAP_CACHE_COHERENCY;
}

static struct iommu_device *pci_sim_probe_device(struct device *dev)
{
	struct pci_sim_fn *fn;

	if (!dev_is_pci(dev))
		return ERR_PTR(-ENODEV);

	fn = pci_sim_fn_of(to_pci_dev(dev));
	if (!fn)
		return ERR_PTR(-ENODEV);

	dev_iommu_priv_set(dev, fn);
	return &pci_sim_iommu;
}

static void pci_sim_get_resv_regions(struct device *dev,
				     struct list_head *regions)
{
	struct iommu_resv_region *region;

	region = iommu_alloc_resv_region(PCI_SIM_MSI_START, PCI_SIM_MSI_SIZE, 0,
					 IOMMU_RESV_MSI, GFP_KERNEL);
	if (region)
		list_add_tail(&region->list, regions);
}

static const struct iommu_ops pci_sim_iommu_ops = {
	.capable		= pci_sim_capable,
	.domain_alloc_paging	= pci_sim_alloc_paging,
	.probe_device		= pci_sim_probe_device,
	.device_group		= pci_device_group,
	.get_resv_regions	= pci_sim_get_resv_regions,
	.identity_domain	= &pci_sim_identity_domain,
	.blocked_domain		= &pci_sim_blocked_domain,
	.release_domain		= &pci_sim_blocked_domain,
	.owner			= THIS_MODULE,
};

/*
 * Without firmware that describes it, a device belongs to the first IOMMU
 * that has been registered, so there must be none.
 */
static bool __init pci_sim_other_iommu(void)
{
	struct pci_dev *pdev = NULL;

	for_each_pci_dev(pdev) {
		if (device_iommu_mapped(&pdev->dev)) {
			pci_dev_put(pdev);
			return true;
		}
	}

	return false;
}

/**
 * pci_sim_iommu_init() - register the IOMMU
 *
 * Return: 0; -EBUSY beside another IOMMU; an error of the IOMMU core.
 */
int __init pci_sim_iommu_init(void)
{
	int ret;

	if (pci_sim_other_iommu()) {
		pr_err("does not work beside an active IOMMU\n");
		return -EBUSY;
	}

	ret = iommu_device_sysfs_add(&pci_sim_iommu, NULL, NULL, "pci-sim");
	if (ret)
		return ret;

	ret = iommu_device_register(&pci_sim_iommu, &pci_sim_iommu_ops, NULL);
	if (ret)
		iommu_device_sysfs_remove(&pci_sim_iommu);
	return ret;
}

/**
 * pci_sim_iommu_exit() - unregister the IOMMU, which has no devices any more
 */
void pci_sim_iommu_exit(void)
{
	iommu_device_unregister(&pci_sim_iommu);
	iommu_device_sysfs_remove(&pci_sim_iommu);
}
