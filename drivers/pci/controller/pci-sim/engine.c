// SPDX-License-Identifier: GPL-2.0-only
/*
 * Simulated PCIe hierarchy for tests: DMA engine of an endpoint
 */
#include <linux/bitmap.h>
#include <linux/cleanup.h>
#include <linux/io.h>
#include <linux/lockdep.h>
#include <linux/sched.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "pci-sim.h"

static_assert(sizeof(struct pci_sim_desc) == 40);
static_assert(sizeof(struct pci_sim_record) == 48);

/* What the engine is at */
struct pci_sim_job {
	struct pci_sim_fn *fn;
	unsigned int generation;
	u32 op;
	u32 flags;
	u64 src;
	u64 dst;
	u32 len;
	u32 count;
	u16 vector;
	u16 st;
	u8 ph;
};

static u32 *pci_sim_engine_status(struct pci_sim_fn *fn)
{
	return &fn->reg[(fn->vsec + PCI_SIM_ENGINE_STATUS) / 4].value;
}

static void pci_sim_engine_ctrl(struct pci_sim_fn *fn, unsigned int reg,
				u32 old, u32 val, u32 mask)
{
	u32 *status = pci_sim_engine_status(fn);

	if (!(val & PCI_SIM_ENGINE_GO) || *status & PCI_SIM_ENGINE_BUSY ||
	    fn->dead)
		return;

	*status = PCI_SIM_ENGINE_BUSY;
	fn->go = true;
	irq_work_queue(&fn->kick);
}

/**
 * pci_sim_engine_add() - add the capability that drives the engine
 * @fn: function
 */
void pci_sim_engine_add(struct pci_sim_fn *fn)
{
	fn->vsec = PCI_SIM_CAP_VSEC;
	pci_sim_add_ext_cap(fn, PCI_EXT_CAP_ID_VNDR, fn->vsec);
	pci_sim_def(fn, fn->vsec + PCI_VNDR_HEADER, 4,
		    PCI_SIM_VSEC_ID | 1 << 16 | PCI_SIM_VSEC_LEN << 20, 0, 0);
	pci_sim_set_trap(fn, fn->vsec + PCI_SIM_ENGINE_CTRL,
			 fn->vsec + PCI_SIM_ENGINE_CTRL, pci_sim_engine_ctrl);
}

/**
 * pci_sim_engine_reset() - stop the engine
 * @fn: function
 */
void pci_sim_engine_reset(struct pci_sim_fn *fn)
{
	lockdep_assert_held(&pci_sim_lock);

	fn->generation++;
	fn->go = false;
}

static void pci_sim_kick(struct irq_work *work)
{
	struct pci_sim_fn *fn = container_of(work, struct pci_sim_fn, kick);
	bool go, poll;

	scoped_guard(raw_spinlock_irqsave, &pci_sim_lock) {
		go = fn->go && !fn->dead;
		poll = !fn->dead && !bitmap_empty(fn->pending, fn->nr_msix);
		fn->go = false;
	}

	if (go)
		queue_work(system_dfl_long_wq, &fn->work);
	if (poll)
		mod_delayed_work(system_dfl_wq, &fn->pba_work, 0);
}

static bool pci_sim_read_desc(struct pci_sim_job *job)
{
	struct pci_sim_fn *fn = job->fn;
	struct pci_sim_desc desc;
	void __iomem *mem;

	mem = pci_sim_bar_ptr(fn, PCI_SIM_DESC_BAR, 0, sizeof(desc));
	if (!mem)
		return false;

	memcpy_fromio(&desc, mem, sizeof(desc));
	job->op = le32_to_cpu(desc.op);
	job->flags = le32_to_cpu(desc.flags);
	job->src = le64_to_cpu(desc.src);
	job->dst = le64_to_cpu(desc.dst);
	job->len = le32_to_cpu(desc.len);
	job->count = le32_to_cpu(desc.count) ?: 1;
	job->vector = le16_to_cpu(desc.vector);
	job->st = le16_to_cpu(desc.st);
	job->ph = desc.ph;

	return job->op <= PCI_SIM_OP_WRITE &&
	       (job->len || job->op == PCI_SIM_OP_NOP) &&
	       !(job->flags & ~PCI_SIM_DESC_IRQ) && job->ph <= 3 &&
	       !memchr_inv(desc.reserved, 0, sizeof(desc.reserved)) &&
	       (!(job->flags & PCI_SIM_DESC_IRQ) ||
		job->vector < max(fn->nr_msix, fn->msi ? 1 : 0));
}

/* One request, or an error if it did not arrive or a reset has come between */
static int pci_sim_request(struct pci_sim_job *job,
			   enum pci_sim_record_type type, u64 addr, u32 len,
			   void *data)
{
	struct pci_sim_tlp tlp = {
		.type = type,
		.addr = addr,
		.len = len,
		.vector = job->vector,
		.st = job->st,
		.ph = job->ph,
	};
	enum pci_sim_fate fate;

	scoped_guard(raw_spinlock_irqsave, &pci_sim_lock) {
		if (job->fn->generation != job->generation)
			return -ECANCELED;

		fate = pci_sim_send(job->fn, &tlp, data);
	}

	cond_resched();
	return fate == PCI_SIM_FATE_OK || fate == PCI_SIM_FATE_HINTS_DROPPED ?
	       0 : -EIO;
}

/* Max_Payload_Size or Max_Read_Request_Size, no further than the 4 KB page */
static u32 pci_sim_split(struct pci_sim_job *job, u16 field, u64 addr, u32 len)
{
	struct pci_sim_fn *fn = job->fn->pf ?: job->fn;
	u16 devctl;
	u32 code;

	scoped_guard(raw_spinlock_irqsave, &pci_sim_lock)
		devctl = pci_sim_get16(fn, fn->exp + PCI_EXP_DEVCTL);
	code = (devctl & field) >> __ffs(field);

	return min3(len, 128U << min(code, 5), SZ_4K - (u32)(addr % SZ_4K));
}

static int pci_sim_write_out(struct pci_sim_job *job, u64 addr, u32 len,
			     void *data)
{
	u32 n;
	int ret;

	for (; len; addr += n, data += n, len -= n) {
		n = pci_sim_split(job, PCI_EXP_DEVCTL_PAYLOAD, addr, len);
		ret = pci_sim_request(job, PCI_SIM_TLP_MWR, addr, n, data);
		if (ret)
			return ret;
	}

	return 0;
}

static int pci_sim_copy(struct pci_sim_job *job)
{
	u64 src = job->src, dst = job->dst;
	u32 len = job->len, n;
	int ret;

	for (; len; src += n, dst += n, len -= n) {
		n = pci_sim_split(job, PCI_EXP_DEVCTL_READRQ, src, len);
		ret = pci_sim_request(job, PCI_SIM_TLP_MRD, src, n,
				      job->fn->buf);
		if (!ret)
			ret = pci_sim_write_out(job, dst, n, job->fn->buf);
		if (ret)
			return ret;
	}

	return 0;
}

static int pci_sim_fill(struct pci_sim_job *job)
{
	__le64 *buf = job->fn->buf;
	u64 dst = job->dst;
	u32 len = job->len, n;
	unsigned int i;
	int ret;

	for (i = 0; i < SZ_4K / sizeof(*buf); i++)
		buf[i] = cpu_to_le64(job->src);

	for (; len; dst += n, len -= n) {
		n = min(len, SZ_4K);
		ret = pci_sim_write_out(job, dst, n, buf);
		if (ret)
			return ret;
	}

	return 0;
}

static int pci_sim_run(struct pci_sim_job *job)
{
	u32 i;
	int ret = 0;

	/* Nothing to repeat, and no request that a reset could stop */
	if (job->op == PCI_SIM_OP_NOP)
		return 0;

	for (i = 0; !ret && i < job->count; i++) {
		if (job->op == PCI_SIM_OP_COPY)
			ret = pci_sim_copy(job);
		else
			ret = pci_sim_fill(job);
	}

	return ret;
}

static void pci_sim_work(struct work_struct *work)
{
	struct pci_sim_fn *fn = container_of(work, struct pci_sim_fn, work);
	struct pci_sim_job job = { .fn = fn };
	bool valid;
	int ret;

	scoped_guard(raw_spinlock_irqsave, &pci_sim_lock) {
		if (fn->dead ||
		    !(*pci_sim_engine_status(fn) & PCI_SIM_ENGINE_BUSY))
			return;
		job.generation = fn->generation;
		valid = pci_sim_read_desc(&job);
	}

	ret = valid ? pci_sim_run(&job) : -EINVAL;

	guard(raw_spinlock_irqsave)(&pci_sim_lock);
	if (fn->generation != job.generation)
		return;

	*pci_sim_engine_status(fn) = ret ? PCI_SIM_ENGINE_ERROR : 0;
	if (valid && job.flags & PCI_SIM_DESC_IRQ)
		pci_sim_irq_raise(fn, job.vector);
}

/**
 * pci_sim_engine_init() - prepare what a function does by itself
 * @fn: function
 *
 * Return: 0; -ENOMEM.
 */
int pci_sim_engine_init(struct pci_sim_fn *fn)
{
	init_irq_work(&fn->kick, pci_sim_kick);
	INIT_WORK(&fn->work, pci_sim_work);
	INIT_DELAYED_WORK(&fn->pba_work, pci_sim_msix_poll);
	fn->buf = kmalloc(SZ_4K, GFP_KERNEL);
	return fn->buf ? 0 : -ENOMEM;
}

/**
 * pci_sim_engine_exit() - end what a function does by itself
 * @fn: function
 */
void pci_sim_engine_exit(struct pci_sim_fn *fn)
{
	scoped_guard(raw_spinlock_irqsave, &pci_sim_lock) {
		pci_sim_engine_reset(fn);
		fn->dead = true;
	}

	irq_work_sync(&fn->kick);
	cancel_delayed_work_sync(&fn->pba_work);
	cancel_work_sync(&fn->work);
	kfree(fn->buf);
}
