// SPDX-License-Identifier: GPL-2.0-only
/*
 * Simulated PCIe hierarchy for tests: interrupts
 *
 * Each host bridge has an interrupt controller of its own: the parent of the
 * MSI domains of its devices. A message carries the number of an interrupt as
 * data, and is accepted only from the function that the interrupt has been
 * allocated for, which makes it isolated as interrupt remapping does.
 */
#include <linux/bitmap.h>
#include <linux/cleanup.h>
#include <linux/cpumask.h>
#include <linux/io.h>
#include <linux/irq.h>
#include <linux/irqchip/irq-msi-lib.h>
#include <linux/irqdomain.h>
#include <linux/lockdep.h>
#include <linux/slab.h>

#include "pci-sim.h"

/*
 * A vector can be unmasked through the MSI-X table, which is plain memory,
 * so have a look now and then as long as a vector waits for that.
 */
#define PCI_SIM_PBA_INTERVAL	msecs_to_jiffies(10)

static void pci_sim_msi_compose(struct irq_data *data, struct msi_msg *msg)
{
	msg->address_hi = 0;
	msg->address_lo = PCI_SIM_MSI_START;
	msg->data = data->hwirq;
}

/* A message is gone when it has been handled */
static void pci_sim_msi_ack(struct irq_data *data)
{
}

/* All CPUs are alike to a message, but its entry is written as for hardware */
static int pci_sim_msi_set_affinity(struct irq_data *data,
				    const struct cpumask *mask, bool force)
{
	unsigned int cpu = cpumask_any_and(mask, cpu_online_mask);

	if (cpu >= nr_cpu_ids)
		return -EINVAL;

	irq_data_update_effective_affinity(data, cpumask_of(cpu));
	return IRQ_SET_MASK_OK;
}

static struct irq_chip pci_sim_msi_chip = {
	.name			= "PCI-SIM-MSI",
	.irq_ack		= pci_sim_msi_ack,
	.irq_compose_msi_msg	= pci_sim_msi_compose,
	.irq_set_affinity	= pci_sim_msi_set_affinity,
};

static void pci_sim_msi_free(struct irq_domain *domain, unsigned int virq,
			     unsigned int nr_irqs)
{
	struct pci_sim_host *host = domain->host_data;
	struct irq_data *data;
	unsigned int i;

	for (i = 0; i < nr_irqs; i++) {
		data = irq_domain_get_irq_data(domain, virq + i);
		scoped_guard(raw_spinlock_irqsave, &pci_sim_lock) {
			host->msi_requester[data->hwirq] = 0;
			clear_bit(data->hwirq, host->msi_pending);
		}
		irq_domain_reset_irq_data(data);
	}
}

static int pci_sim_msi_find(struct pci_sim_host *host, u16 requester)
{
	unsigned int hwirq;

	guard(raw_spinlock_irqsave)(&pci_sim_lock);
	for (hwirq = 0; hwirq < PCI_SIM_NR_MSIS; hwirq++) {
		if (!host->msi_requester[hwirq]) {
			host->msi_requester[hwirq] = requester + 1;
			return hwirq;
		}
	}

	return -ENOSPC;
}

static int pci_sim_msi_alloc(struct irq_domain *domain, unsigned int virq,
			     unsigned int nr_irqs, void *arg)
{
	struct msi_desc *desc = ((msi_alloc_info_t *)arg)->desc;
	struct pci_sim_host *host = domain->host_data;
	u16 requester = pci_dev_id(msi_desc_to_pci_dev(desc));
	unsigned int i;
	int hwirq;

	for (i = 0; i < nr_irqs; i++) {
		hwirq = pci_sim_msi_find(host, requester);
		if (hwirq < 0) {
			pci_sim_msi_free(domain, virq, i);
			return hwirq;
		}

		irq_domain_set_info(domain, virq + i, hwirq, &pci_sim_msi_chip,
				    host, handle_edge_irq, NULL, NULL);
	}

	return 0;
}

static const struct irq_domain_ops pci_sim_msi_domain_ops = {
	.alloc	= pci_sim_msi_alloc,
	.free	= pci_sim_msi_free,
};

#define PCI_SIM_MSI_FLAGS_SUPPORTED	(MSI_GENERIC_FLAGS_MASK |	\
					 MSI_FLAG_PCI_MSIX |		\
					 MSI_FLAG_PCI_MSIX_ALLOC_DYN)
#define PCI_SIM_MSI_FLAGS_REQUIRED	(MSI_FLAG_USE_DEF_DOM_OPS |	\
					 MSI_FLAG_USE_DEF_CHIP_OPS)

static const struct msi_parent_ops pci_sim_msi_parent_ops = {
	.supported_flags	= PCI_SIM_MSI_FLAGS_SUPPORTED,
	.required_flags		= PCI_SIM_MSI_FLAGS_REQUIRED,
	.chip_flags		= MSI_CHIP_FLAG_SET_ACK,
	.bus_select_token	= DOMAIN_BUS_NEXUS,
	.bus_select_mask	= MATCH_PCI_MSI,
	.prefix			= "PCI-SIM-",
	.init_dev_msi_info	= msi_lib_init_dev_msi_info,
};

static void pci_sim_msi_handle(struct irq_work *work)
{
	struct pci_sim_host *host = container_of(work, struct pci_sim_host,
						 msi_work);
	unsigned int hwirq;

	for_each_set_bit(hwirq, host->msi_pending, PCI_SIM_NR_MSIS)
		if (test_and_clear_bit(hwirq, host->msi_pending))
			generic_handle_domain_irq(host->msi_domain, hwirq);
}

/**
 * pci_sim_msi_receive() - a message has arrived at the interrupt controller
 * @host: host bridge that it came through
 * @requester: requester ID
 * @data: data of the message
 *
 * Return: false if the interrupt does not belong to the requester.
 */
bool pci_sim_msi_receive(struct pci_sim_host *host, u16 requester, u32 data)
{
	lockdep_assert_held(&pci_sim_lock);

	if (data >= PCI_SIM_NR_MSIS ||
	    host->msi_requester[data] != requester + 1)
		return false;

	set_bit(data, host->msi_pending);
	irq_work_queue(&host->msi_work);
	return true;
}

/**
 * pci_sim_msi_init() - create the interrupt controller of a host bridge
 * @host: host bridge
 *
 * Return: 0; -ENOMEM.
 */
int pci_sim_msi_init(struct pci_sim_host *host)
{
	struct irq_domain_info info = {
		.size		= PCI_SIM_NR_MSIS,
		.ops		= &pci_sim_msi_domain_ops,
		.domain_flags	= IRQ_DOMAIN_FLAG_ISOLATED_MSI,
		.host_data	= host,
	};

	host->msi_work = IRQ_WORK_INIT_HARD(pci_sim_msi_handle);
	host->msi_pending = bitmap_zalloc(PCI_SIM_NR_MSIS, GFP_KERNEL);
	host->msi_requester = kcalloc(PCI_SIM_NR_MSIS,
				      sizeof(*host->msi_requester), GFP_KERNEL);
	if (!host->msi_pending || !host->msi_requester)
		return -ENOMEM;

	info.fwnode = irq_domain_alloc_named_id_fwnode("PCI-SIM-MSI",
						       host->sysdata.domain);
	if (!info.fwnode)
		return -ENOMEM;

	host->msi_domain = msi_create_parent_irq_domain(&info,
							&pci_sim_msi_parent_ops);
	if (!host->msi_domain) {
		irq_domain_free_fwnode(info.fwnode);
		return -ENOMEM;
	}

	dev_set_msi_domain(&host->bridge->dev, host->msi_domain);
	return 0;
}

/**
 * pci_sim_msi_exit() - remove the interrupt controller of a host bridge
 * @host: host bridge, whose devices are gone
 */
void pci_sim_msi_exit(struct pci_sim_host *host)
{
	struct fwnode_handle *fwnode;

	if (host->msi_domain) {
		irq_work_sync(&host->msi_work);
		fwnode = host->msi_domain->fwnode;
		irq_domain_remove(host->msi_domain);
		irq_domain_free_fwnode(fwnode);
	}
	kfree(host->msi_requester);
	bitmap_free(host->msi_pending);
}

/*
 * MSI of a function: one message, which cannot be masked
 */

static bool pci_sim_msi_enabled(struct pci_sim_fn *fn)
{
	return fn->msi && pci_sim_get16(fn, fn->msi + PCI_MSI_FLAGS) &
			  PCI_MSI_FLAGS_ENABLE;
}

static void pci_sim_msi_send(struct pci_sim_fn *fn)
{
	struct pci_sim_tlp tlp = {
		.type = PCI_SIM_TLP_MSI,
		.addr = pci_sim_get32(fn, fn->msi + PCI_MSI_ADDRESS_LO) |
			(u64)pci_sim_get32(fn, fn->msi +
					       PCI_MSI_ADDRESS_HI) << 32,
		.len = sizeof(__le32),
	};
	__le32 data = cpu_to_le32(pci_sim_get16(fn, fn->msi + PCI_MSI_DATA_64));

	pci_sim_send(fn, &tlp, &data);
}

/**
 * pci_sim_msi_add() - add the MSI capability
 * @fn: function
 */
void pci_sim_msi_add(struct pci_sim_fn *fn)
{
	fn->msi = PCI_SIM_CAP_MSI;
	pci_sim_add_cap(fn, PCI_CAP_ID_MSI, fn->msi);
	pci_sim_def(fn, fn->msi + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_64BIT,
		    PCI_MSI_FLAGS_ENABLE, 0);
	pci_sim_def(fn, fn->msi + PCI_MSI_ADDRESS_LO, 4, 0, ~3, 0);
	pci_sim_def(fn, fn->msi + PCI_MSI_ADDRESS_HI, 4, 0, ~0, 0);
	pci_sim_def(fn, fn->msi + PCI_MSI_DATA_64, 2, 0, 0xffff, 0);
}

/*
 * MSI-X of a function
 */

static void __iomem *pci_sim_msix_table(struct pci_sim_fn *fn)
{
	if (!fn->nr_msix)
		return NULL;

	return pci_sim_bar_ptr(fn, PCI_SIM_MSIX_BAR, 0,
			       fn->nr_msix * PCI_MSIX_ENTRY_SIZE);
}

static void __iomem *pci_sim_msix_entry(struct pci_sim_fn *fn,
					unsigned int vector)
{
	return pci_sim_bar_ptr(fn, PCI_SIM_MSIX_BAR,
			       vector * PCI_MSIX_ENTRY_SIZE,
			       PCI_MSIX_ENTRY_SIZE);
}

/**
 * pci_sim_msix_vctrl() - Vector Control of an entry, as the function has it
 * @fn: function whose MSI-X table has an address
 * @vector: entry
 *
 * Return: the register.
 */
u32 pci_sim_msix_vctrl(struct pci_sim_fn *fn, unsigned int vector)
{
	u32 where = vector * PCI_MSIX_ENTRY_SIZE + PCI_MSIX_ENTRY_VECTOR_CTRL;

	lockdep_assert_held(&pci_sim_lock);

	if (fn->msix_saved)
		return *(u32 *)(fn->msix_table + where);

	return readl(pci_sim_bar_ptr(fn, PCI_SIM_MSIX_BAR, where, sizeof(u32)));
}

static void pci_sim_msix_set_pending(struct pci_sim_fn *fn, unsigned int vector,
				     bool pending)
{
	void __iomem *pba = pci_sim_bar_ptr(fn, PCI_SIM_MSIX_BAR,
					    PCI_SIM_PBA_OFFSET + vector / 32 * 4,
					    4);
	u32 bit = BIT(vector % 32);

	__assign_bit(vector, fn->pending, pending);
	writel(pending ? readl(pba) | bit : readl(pba) & ~bit, pba);
}

/**
 * pci_sim_msix_reset() - bring the MSI-X table to its state after a reset
 * @fn: function
 */
void pci_sim_msix_reset(struct pci_sim_fn *fn)
{
	void __iomem *entry;
	unsigned int i;

	lockdep_assert_held(&pci_sim_lock);

	fn->msix_saved = false;
	if (!fn->nr_msix || !fn->bar[PCI_SIM_MSIX_BAR])
		return;

	for (i = 0; i < fn->nr_msix; i++) {
		entry = pci_sim_msix_entry(fn, i);
		writel(0, entry + PCI_MSIX_ENTRY_LOWER_ADDR);
		writel(0, entry + PCI_MSIX_ENTRY_UPPER_ADDR);
		writel(0, entry + PCI_MSIX_ENTRY_DATA);
		writel(PCI_MSIX_ENTRY_CTRL_MASKBIT,
		       entry + PCI_MSIX_ENTRY_VECTOR_CTRL);
		pci_sim_msix_set_pending(fn, i, false);
	}
}

static void pci_sim_msix_send(struct pci_sim_fn *fn, unsigned int vector,
			      void __iomem *entry)
{
	struct pci_sim_tlp tlp = {
		.type = PCI_SIM_TLP_MSI,
		/* Who maps the table can set the two reserved bits as well */
		.addr = (readl(entry + PCI_MSIX_ENTRY_LOWER_ADDR) & ~3) |
			(u64)readl(entry + PCI_MSIX_ENTRY_UPPER_ADDR) << 32,
		.len = sizeof(__le32),
		.vector = vector,
	};
	__le32 data = cpu_to_le32(readl(entry + PCI_MSIX_ENTRY_DATA));

	pci_sim_send(fn, &tlp, &data);
}

/* Returns false if the vector is masked */
static bool pci_sim_msix_try(struct pci_sim_fn *fn, unsigned int vector)
{
	void __iomem *entry = pci_sim_msix_entry(fn, vector);
	u16 flags = pci_sim_get16(fn, fn->msix + PCI_MSIX_FLAGS);
	u32 ctrl = pci_sim_msix_vctrl(fn, vector);
	bool masked = flags & PCI_MSIX_FLAGS_MASKALL ||
		      ctrl & PCI_MSIX_ENTRY_CTRL_MASKBIT;

	if (test_bit(vector, fn->pending) != masked)
		pci_sim_msix_set_pending(fn, vector, masked);
	if (!masked)
		pci_sim_msix_send(fn, vector, entry);
	return !masked;
}

static bool pci_sim_msix_enabled(struct pci_sim_fn *fn)
{
	return fn->nr_msix && fn->bar[PCI_SIM_MSIX_BAR] &&
	       pci_sim_get16(fn, fn->msix + PCI_MSIX_FLAGS) &
	       PCI_MSIX_FLAGS_ENABLE;
}

/**
 * pci_sim_irq_raise() - send the message of a vector, or let it wait
 * @fn: function
 * @vector: entry in the MSI-X table; with MSI all vectors share the message
 */
void pci_sim_irq_raise(struct pci_sim_fn *fn, unsigned int vector)
{
	lockdep_assert_held(&pci_sim_lock);

	if (fn->dead)
		return;

	if (pci_sim_msi_enabled(fn))
		pci_sim_msi_send(fn);
	else if (pci_sim_msix_enabled(fn) && !pci_sim_msix_try(fn, vector))
		irq_work_queue(&fn->kick);
}

static void pci_sim_msix_ctrl_write(struct pci_sim_fn *fn, unsigned int reg,
				    u32 old, u32 val, u32 mask)
{
	if (!bitmap_empty(fn->pending, fn->nr_msix))
		irq_work_queue(&fn->kick);
}

/**
 * pci_sim_msix_d3hot() - let writes to the MSI-X table be lost from now on
 * @fn: function
 *
 * BARs do not respond in D3hot.  They are memory, so the writes cannot be kept out.
 */
void pci_sim_msix_d3hot(struct pci_sim_fn *fn)
{
	void __iomem *table = pci_sim_msix_table(fn);

	lockdep_assert_held(&pci_sim_lock);

	if (!table)
		return;

	memcpy_fromio(fn->msix_table, table, fn->nr_msix * PCI_MSIX_ENTRY_SIZE);
	fn->msix_saved = true;
}

/**
 * pci_sim_msix_d0() - undo what was written to the MSI-X table in D3hot
 * @fn: function
 */
void pci_sim_msix_d0(struct pci_sim_fn *fn)
{
	void __iomem *table = pci_sim_msix_table(fn);

	lockdep_assert_held(&pci_sim_lock);

	if (table && fn->msix_saved)
		memcpy_toio(table, fn->msix_table,
			    fn->nr_msix * PCI_MSIX_ENTRY_SIZE);
	fn->msix_saved = false;
}

/**
 * pci_sim_msix_init() - add the MSI-X capability
 * @fn: function
 *
 * Return: 0; -ENOMEM.
 */
int pci_sim_msix_init(struct pci_sim_fn *fn)
{
	fn->nr_msix = fn->node->msix;
	if (!fn->nr_msix)
		return 0;

	fn->msix_table = kcalloc(fn->nr_msix, PCI_MSIX_ENTRY_SIZE, GFP_KERNEL);
	if (!fn->msix_table)
		return -ENOMEM;

	fn->msix = PCI_SIM_CAP_MSIX;
	pci_sim_add_cap(fn, PCI_CAP_ID_MSIX, fn->msix);
	pci_sim_def(fn, fn->msix + PCI_MSIX_FLAGS, 2, fn->nr_msix - 1,
		    PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL, 0);
	pci_sim_def(fn, fn->msix + PCI_MSIX_TABLE, 4, PCI_SIM_MSIX_BAR, 0, 0);
	pci_sim_def(fn, fn->msix + PCI_MSIX_PBA, 4,
		    PCI_SIM_PBA_OFFSET | PCI_SIM_MSIX_BAR, 0, 0);
	pci_sim_set_trap(fn, fn->msix, fn->msix, pci_sim_msix_ctrl_write);
	return 0;
}

/**
 * pci_sim_msix_poll() - raise the vectors again that have been masked
 * @work: pci_sim_fn.pba_work
 */
void pci_sim_msix_poll(struct work_struct *work)
{
	struct pci_sim_fn *fn = container_of(to_delayed_work(work),
					     struct pci_sim_fn, pba_work);
	unsigned int vector;

	scoped_guard(raw_spinlock_irqsave, &pci_sim_lock) {
		if (fn->dead || !pci_sim_msix_enabled(fn))
			return;

		for_each_set_bit(vector, fn->pending, fn->nr_msix)
			pci_sim_msix_try(fn, vector);
		if (bitmap_empty(fn->pending, fn->nr_msix))
			return;
	}

	queue_delayed_work(system_dfl_wq, &fn->pba_work, PCI_SIM_PBA_INTERVAL);
}
