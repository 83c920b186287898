// SPDX-License-Identifier: GPL-2.0-only
/*
 * Simulated PCIe hierarchy for tests: host bridges
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cleanup.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/numa.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "pci-sim.h"

/* The selftests of vfio know domains of four digits only */
#define PCI_SIM_DOMAIN_MIN	0x1000

DEFINE_RAW_SPINLOCK(pci_sim_lock);
LIST_HEAD(pci_sim_hosts);

static unsigned long long window[2];
static int window_args;
module_param_array(window, ullong, &window_args, 0444);
MODULE_PARM_DESC(window,
		 "<base>,<size> of RAM that the kernel does not use (see mem=), where the BARs are placed");

struct resource pci_sim_window = {
	.name	= "pci-sim",
	.flags	= IORESOURCE_MEM,
};

static void __iomem *pci_sim_window_base;

/**
 * pci_sim_window_ptr() - memory behind an address in the window
 * @phys: address
 * @len: bytes
 *
 * Return: the memory, or NULL if it is not completely in the window.
 */
void __iomem *pci_sim_window_ptr(phys_addr_t phys, size_t len)
{
	if (phys < pci_sim_window.start || phys > pci_sim_window.end ||
	    len > pci_sim_window.end - phys + 1)
		return NULL;

	return pci_sim_window_base + (phys - pci_sim_window.start);
}

/* Where the PCI core has found it: a port above need not pass requests now */
static struct pci_sim_fn *pci_sim_find_fn(struct pci_sim_host *host,
					  struct pci_dev *pdev)
{
	struct pci_dev *bridge = pci_upstream_bridge(pdev);
	struct pci_sim_fn *parent;

	if (!bridge)
		return pci_sim_find_devfn(&host->fns, pdev->devfn);

	parent = pci_sim_find_fn(host, bridge);
	return parent ? pci_sim_find_devfn(&parent->children, pdev->devfn) :
			NULL;
}

/**
 * pci_sim_fn_of() - the simulated function of a PCI device
 * @pdev: any PCI device
 *
 * The buses are recognised by their sysdata: pci_bus.ops is no proof, because
 * it can be replaced by users that look at accesses.
 *
 * Return: the function, or NULL if @pdev is not simulated. It exists as long
 * as @pdev.
 */
struct pci_sim_fn *pci_sim_fn_of(struct pci_dev *pdev)
{
	struct pci_sim_host *host;

	guard(raw_spinlock_irqsave)(&pci_sim_lock);
	list_for_each_entry(host, &pci_sim_hosts, list)
		if (pdev->sysdata == &host->sysdata)
			return pci_sim_find_fn(host, pdev);

	return NULL;
}

static struct list_head *pci_sim_siblings(struct pci_sim_host *host,
					  struct pci_sim_fn *parent)
{
	return parent ? &parent->children : &host->fns;
}

static void pci_sim_fns_stop(struct list_head *fns)
{
	struct pci_sim_fn *fn;

	list_for_each_entry(fn, fns, siblings) {
		pci_sim_fns_stop(&fn->children);
		pci_sim_engine_exit(fn);
	}
}

/* All have been stopped: a request looks at functions on and beside its way */
static void pci_sim_fns_free(struct list_head *fns)
{
	struct pci_sim_fn *fn, *tmp;

	list_for_each_entry_safe(fn, tmp, fns, siblings) {
		pci_sim_fns_free(&fn->children);
		scoped_guard(raw_spinlock_irqsave, &pci_sim_lock)
			list_del(&fn->siblings);
		fn->node->fn = NULL;
		kfree(fn->msix_table);
		kfree(fn->st_snapshot);
		kvfree(fn);
	}
}

/* Without function 0 nobody looks for the others */
static bool pci_sim_has_function_0(struct list_head *nodes)
{
	struct pci_sim_node *node;

	list_for_each_entry(node, nodes, siblings)
		if (!node->number)
			return true;

	return list_empty(nodes);
}

static int pci_sim_fns_create(struct pci_sim_host *host,
			      struct pci_sim_fn *parent,
			      struct list_head *nodes)
{
	struct pci_sim_node *node;
	struct pci_sim_fn *fn;
	int ret;

	if (pci_sim_has_link(parent) && !pci_sim_has_function_0(nodes))
		return -EINVAL;

	list_for_each_entry(node, nodes, siblings) {
		fn = kvzalloc_obj(*fn);
		if (!fn)
			return -ENOMEM;

		fn->host = host;
		fn->node = node;
		fn->kind = node->kind;
		if (fn->kind == PCI_SIM_VF) {
			fn->pf = parent;
			fn->parent = parent->parent;
			fn->devfn = parent->devfn + 1 + node->number;
		} else {
			fn->parent = parent;
			fn->devfn = pci_sim_has_link(parent) ?
				    PCI_DEVFN(0, node->number) :
				    PCI_DEVFN(node->number, 0);
		}
		fn->bdf = fn->devfn;
		INIT_LIST_HEAD(&fn->children);

		ret = pci_sim_engine_init(fn);
		if (ret) {
			kvfree(fn);
			return ret;
		}

		list_add_tail(&fn->siblings, pci_sim_siblings(host, parent));
		node->fn = fn;

		ret = pci_sim_fn_init(fn);
		if (ret)
			return ret;

		ret = pci_sim_fns_create(host, fn, &node->children);
		if (ret)
			return ret;
	}

	return 0;
}

/* A bridge opens its memory window in units of 1 MB */
static resource_size_t pci_sim_mem_size(struct list_head *nodes)
{
	resource_size_t size = 0, bars = 0;
	struct pci_sim_node *node;

	list_for_each_entry(node, nodes, siblings) {
		if (node->kind == PCI_SIM_ENDPOINT ||
		    node->kind == PCI_SIM_RCIEP)
			bars += 2 * PCI_SIM_BAR_SIZE *
				(1 + list_count_nodes(&node->children));
		else
			size += pci_sim_mem_size(&node->children);
	}

	return size + ALIGN(bars, SZ_1M);
}

static int pci_sim_host_resources(struct pci_sim_host *host)
{
	resource_size_t size = pci_sim_mem_size(&host->node->children);
	int ret;

	host->busn = (struct resource) {
		.name = "pci-sim bus",
		.start = 0,
		.end = 0xff,
		.flags = IORESOURCE_BUS,
	};
	host->mem.name = "pci-sim host bridge";
	host->mem.flags = IORESOURCE_MEM;

	ret = allocate_resource(&pci_sim_window, &host->mem,
				max_t(resource_size_t, size, SZ_1M),
				pci_sim_window.start, pci_sim_window.end,
				SZ_1M, NULL, NULL);
	if (ret)
		return ret;

	memset_io(pci_sim_window_ptr(host->mem.start,
				     resource_size(&host->mem)),
		  0, resource_size(&host->mem));
	return 0;
}

static int pci_sim_host_companion(struct pci_sim_host *host)
{
	const char *path = host->node->acpi_path;
	acpi_handle handle;

	if (!path || !*path)
		return 0;

	if (ACPI_FAILURE(acpi_get_handle(NULL, (char *)path, &handle)))
		return -ENODEV;

	host->companion = acpi_get_acpi_dev(handle);
	if (!host->companion)
		return -ENODEV;

	host->sysdata.companion = host->companion;
	return 0;
}

static void pci_sim_host_release(struct pci_host_bridge *bridge)
{
	struct pci_sim_host *host = bridge->release_data;

	complete(&host->released);
}

static int pci_sim_host_alloc_bridge(struct pci_sim_host *host)
{
	u32 domain = host->node->domain;
	struct pci_host_bridge *bridge;
	int nr;

	bridge = pci_alloc_host_bridge(0);
	if (!bridge)
		return -ENOMEM;

	nr = pci_bus_find_emul_domain_nr(domain, domain ?: PCI_SIM_DOMAIN_MIN,
					 domain ?: PCI_SIM_DOMAIN_MAX);
	if (nr < 0) {
		pci_free_host_bridge(bridge);
		return nr;
	}

	host->bridge = bridge;
	host->sysdata.domain = nr;
	bridge->sysdata = &host->sysdata;
	bridge->ops = &pci_sim_ops;
	bridge->release_fn = pci_sim_host_release;
	bridge->release_data = host;
	pci_add_resource(&bridge->windows, &host->busn);
	pci_add_resource(&bridge->windows, &host->mem);
	return 0;
}

/*
 * This and pci_sim_host_free() are the exact reverse of pci_sim_host_create(),
 * from any point of it
 */
static void pci_sim_host_remove(struct pci_sim_host *host)
{
	if (!host->bridge)
		return;

	if (host->probed) {
		pci_lock_rescan_remove();
		pci_stop_root_bus(host->bridge->bus);
		pci_remove_root_bus(host->bridge->bus);
		pci_unlock_rescan_remove();
	}

	/* Buses and devices refer to sysdata until they are released */
	pci_free_host_bridge(host->bridge);
	wait_for_completion(&host->released);

	guard(raw_spinlock_irqsave)(&pci_sim_lock);
	list_del_init(&host->list);
}

static void pci_sim_host_free(struct pci_sim_host *host)
{
	pci_sim_fns_stop(&host->fns);
	pci_sim_fns_free(&host->fns);
	pci_sim_msi_exit(host);
	if (host->mem.parent)
		release_resource(&host->mem);
	acpi_put_acpi_dev(host->companion);
	/* The PCI core would do it after @released, when nobody waits */
	if (host->sysdata.domain)
		pci_bus_release_emul_domain_nr(host->sysdata.domain);
	host->node->host = NULL;
	kfree(host);
}

/* What has been created before an error is left for pci_sim_fabric_stop() */
static int pci_sim_host_create(struct pci_sim_node *node)
{
	struct pci_sim_host *host;
	int ret;

	host = kzalloc_obj(*host);
	if (!host)
		return -ENOMEM;

	host->node = node;
	host->sysdata.node = NUMA_NO_NODE;
	INIT_LIST_HEAD(&host->list);
	INIT_LIST_HEAD(&host->fns);
	init_completion(&host->released);
	node->host = host;

	ret = pci_sim_host_companion(host);
	if (ret)
		return ret;

	ret = pci_sim_host_resources(host);
	if (ret)
		return ret;

	ret = pci_sim_fns_create(host, NULL, &node->children);
	if (ret)
		return ret;

	ret = pci_sim_host_alloc_bridge(host);
	if (ret)
		return ret;

	ret = pci_sim_msi_init(host);
	if (ret)
		return ret;

	scoped_guard(raw_spinlock_irqsave, &pci_sim_lock)
		list_add_tail(&host->list, &pci_sim_hosts);

	ret = pci_host_probe(host->bridge);
	if (ret)
		return ret;

	host->probed = true;
	return 0;
}

/**
 * pci_sim_fabric_start() - create the PCI devices of a fabric
 * @fabric: the fabric
 *
 * After an error, too, pci_sim_fabric_stop() has to follow.
 *
 * Context: takes the locks of the PCI core, both locks of the fabric are held.
 * Return: 0; -ENODATA if there is no host bridge; -ENODEV if there is no ACPI
 * device of the wanted name; -EINVAL if a capability does not fit, or a device
 * has no function 0, or other functions and VFs; -ENOSPC or
 * -EEXIST if the wanted domain is in use; -EBUSY if the window is too small;
 * -ENOMEM.
 */
int pci_sim_fabric_start(struct pci_sim_fabric *fabric)
{
	struct pci_sim_node *node;
	int ret;

	lockdep_assert_held(&fabric->live_lock);
	lockdep_assert_held(&fabric->lock);

	if (list_empty(&fabric->hosts))
		return -ENODATA;

	list_for_each_entry(node, &fabric->hosts, siblings) {
		ret = pci_sim_host_create(node);
		if (ret)
			return ret;
	}

	return 0;
}

/**
 * pci_sim_fabric_stop() - remove the PCI devices of a fabric
 * @fabric: the fabric
 *
 * Context: takes the locks of the PCI core, fabric->live_lock is held. Waits
 * until drivers have let go of the devices, and takes fabric->lock after that.
 */
void pci_sim_fabric_stop(struct pci_sim_fabric *fabric)
{
	struct pci_sim_node *node;

	lockdep_assert_held(&fabric->live_lock);

	list_for_each_entry_reverse(node, &fabric->hosts, siblings) {
		if (!node->host)
			continue;

		pci_sim_host_remove(node->host);
		scoped_guard(mutex, &fabric->lock)
			pci_sim_host_free(node->host);
	}
}

static bool __init pci_sim_window_is_memory(void)
{
	void __iomem *last = pci_sim_window_base +
			     resource_size(&pci_sim_window) - sizeof(u32);
	u32 pattern = 0x7481a55a;

	writel(pattern, pci_sim_window_base);
	writel(~pattern, last);
	return readl(pci_sim_window_base) == pattern && readl(last) == ~pattern;
}

static int __init pci_sim_window_init(void)
{
	u64 base = window[0], size = window[1];

	/* Built in, it is there for those alone who give it memory */
	if (IS_BUILTIN(CONFIG_PCI_SIM) && !window_args)
		return -ENODEV;

	if (window_args != 2) {
		pr_err("no memory for the BARs, give window=<base>,<size>\n");
		return -EINVAL;
	}

	/* Bridges have a 32-bit memory window in units of 1 MB */
	if (!size || !IS_ALIGNED(base | size, SZ_1M) || base >= SZ_4G ||
	    size > SZ_4G - base) {
		pr_err("window %#llx,%#llx is not aligned to 1 MB below 4 GB\n",
		       base, size);
		return -EINVAL;
	}

	pci_sim_window.start = base;
	pci_sim_window.end = base + size - 1;
	if (request_resource(&iomem_resource, &pci_sim_window)) {
		pr_err("window %pR is in use\n", &pci_sim_window);
		return -EBUSY;
	}

	/* Uncached, as all other mappings of BARs: aliases must not differ */
	pci_sim_window_base = ioremap(base, size);
	if (!pci_sim_window_base) {
		release_resource(&pci_sim_window);
		return -ENOMEM;
	}

	if (!pci_sim_window_is_memory()) {
		pr_err("window %pR is not memory\n", &pci_sim_window);
		iounmap(pci_sim_window_base);
		release_resource(&pci_sim_window);
		return -ENXIO;
	}

	return 0;
}

static void pci_sim_window_exit(void)
{
	iounmap(pci_sim_window_base);
	release_resource(&pci_sim_window);
}

static int __init pci_sim_init(void)
{
	int ret;

	ret = pci_sim_window_init();
	if (ret)
		return ret;

	ret = pci_sim_iommu_init();
	if (ret)
		goto err_window;

	ret = pci_sim_analyzer_init();
	if (ret)
		goto err_iommu;

	ret = pci_sim_configfs_init();
	if (ret)
		goto err_analyzer;

	return 0;

err_analyzer:
	pci_sim_analyzer_exit();
err_iommu:
	pci_sim_iommu_exit();
err_window:
	pci_sim_window_exit();
	return ret;
}
module_init(pci_sim_init);

/* A directory in configfs holds a reference of the module: nothing is live */
static void __exit pci_sim_exit(void)
{
	pci_sim_configfs_exit();
	pci_sim_analyzer_exit();
	pci_sim_iommu_exit();
	pci_sim_window_exit();
}
module_exit(pci_sim_exit);

MODULE_DESCRIPTION("Simulated PCIe hierarchy for tests");
MODULE_LICENSE("GPL");
