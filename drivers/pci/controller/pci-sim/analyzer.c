// SPDX-License-Identifier: GPL-2.0-only
/*
 * Simulated PCIe hierarchy for tests: the record of what has happened
 */
#include <linux/array_size.h>
#include <linux/cleanup.h>
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/lockdep.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "pci-sim.h"

#define PCI_SIM_NR_RECORDS	16384	/* power of 2 */
#define PCI_SIM_CHUNK		64

/* All protected by pci_sim_lock */
static struct pci_sim_record *pci_sim_records;
static u64 pci_sim_next_seq;
static u64 pci_sim_text_seq;	/* the first one that the text shows */
static u64 pci_sim_violations;

static struct dentry *pci_sim_debugfs;

/**
 * pci_sim_record() - add a record
 * @fn: requester, or the target of a config access
 * @rec: record; fields that are common to all are filled in
 */
void pci_sim_record(struct pci_sim_fn *fn, struct pci_sim_record *rec)
{
	lockdep_assert_held(&pci_sim_lock);

	rec->seq = pci_sim_next_seq++;
	rec->domain = fn->host->sysdata.domain;
	rec->bdf = fn->bdf;
	if (rec->type == PCI_SIM_VIOLATION)
		pci_sim_violations++;
	pci_sim_records[rec->seq % PCI_SIM_NR_RECORDS] = *rec;
}

static u64 pci_sim_oldest(void)
{
	if (pci_sim_next_seq <= PCI_SIM_NR_RECORDS)
		return 0;
	return pci_sim_next_seq - PCI_SIM_NR_RECORDS;
}

/* Copy up to @max records from *@seq on, and advance *@seq */
static unsigned int pci_sim_fetch(struct pci_sim_record *recs, unsigned int max,
				  u64 *seq)
{
	unsigned int n;
	u64 lost = 0;

	guard(raw_spinlock_irqsave)(&pci_sim_lock);
	if (*seq < pci_sim_oldest()) {
		lost = pci_sim_oldest() - *seq;
		*seq = pci_sim_oldest();
	}

	for (n = 0; n < max && *seq < pci_sim_next_seq; n++, (*seq)++)
		recs[n] = pci_sim_records[*seq % PCI_SIM_NR_RECORDS];
	if (n)
		recs[0].lost = min(lost, U32_MAX);
	return n;
}

/*
 * /dev/pci-sim
 */

struct pci_sim_reader {
	struct mutex lock;	/* serializes readers of one file */
	u64 seq;
	struct pci_sim_record recs[PCI_SIM_CHUNK];
};

static int pci_sim_open(struct inode *inode, struct file *file)
{
	struct pci_sim_reader *reader = kzalloc_obj(*reader);

	if (!reader)
		return -ENOMEM;

	mutex_init(&reader->lock);
	scoped_guard(raw_spinlock_irqsave, &pci_sim_lock)
		reader->seq = pci_sim_next_seq;
	file->private_data = reader;
	return stream_open(inode, file);
}

static int pci_sim_close(struct inode *inode, struct file *file)
{
	struct pci_sim_reader *reader = file->private_data;

	mutex_destroy(&reader->lock);
	kfree(reader);
	return 0;
}

static ssize_t pci_sim_file_read(struct file *file, char __user *buf,
				 size_t count, loff_t *pos)
{
	struct pci_sim_reader *reader = file->private_data;
	size_t done = 0, max, n;
	u64 seq;

	if (count < sizeof(struct pci_sim_record))
		return -EINVAL;

	guard(mutex)(&reader->lock);
	for (;;) {
		max = min((count - done) / sizeof(struct pci_sim_record),
			  ARRAY_SIZE(reader->recs));
		seq = reader->seq;
		n = pci_sim_fetch(reader->recs, max, &seq);
		if (!n)
			return done;

		n *= sizeof(struct pci_sim_record);
		if (copy_to_user(buf + done, reader->recs, n))
			return done ?: -EFAULT;

		reader->seq = seq;
		done += n;
	}
}

static const struct file_operations pci_sim_fops = {
	.owner		= THIS_MODULE,
	.open		= pci_sim_open,
	.release	= pci_sim_close,
	.read		= pci_sim_file_read,
};

static struct miscdevice pci_sim_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "pci-sim",
	.fops	= &pci_sim_fops,
	.mode	= 0400,
};

/*
 * debugfs
 */

static const char * const pci_sim_fates[] = {
	[PCI_SIM_FATE_FAILED]		= "FAILED",
	[PCI_SIM_FATE_NOT_SENT]		= "NOT_SENT",
	[PCI_SIM_FATE_UNSUPPORTED]	= "UNSUPPORTED",
	[PCI_SIM_FATE_TRANSLATION]	= "TRANSLATION",
	[PCI_SIM_FATE_HINTS_DROPPED]	= "HINTS_DROPPED",
	[PCI_SIM_FATE_MALFORMED]	= "MALFORMED",
	[PCI_SIM_FATE_BLOCKED]		= "BLOCKED",
};

static const char * const pci_sim_resets[] = {
	[PCI_SIM_RESET_FLR]	= "FLR",
	[PCI_SIM_RESET_AF_FLR]	= "AF_FLR",
	[PCI_SIM_RESET_D3HOT]	= "D3HOT",
	[PCI_SIM_RESET_BUS]	= "BUS",
	[PCI_SIM_RESET_PF]	= "PF",
	[PCI_SIM_RESET_BACKDOOR] = "BACKDOOR",
};

static const char * const pci_sim_violation_names[] = {
	[PCI_SIM_VIOLATION_ST_MSIX]	= "ST_MSIX",
	[PCI_SIM_VIOLATION_ST_CAP]	= "ST_CAP",
	[PCI_SIM_VIOLATION_TPH_CTRL]	= "TPH_CTRL",
};

static const char * const pci_sim_errors[] = {
	[PCI_SIM_ERROR_COR]		= "COR",
	[PCI_SIM_ERROR_NONFATAL]	= "NONFATAL",
	[PCI_SIM_ERROR_FATAL]		= "FATAL",
};

static void pci_sim_show_bdf(struct seq_file *s, u16 domain, u16 bdf)
{
	seq_printf(s, " %04x:%02x:%02x.%x", domain, PCI_BUS_NUM(bdf),
		   PCI_SLOT(bdf), PCI_FUNC(bdf));
}

static void pci_sim_show_tlp(struct seq_file *s,
			     const struct pci_sim_record *rec)
{
	seq_printf(s, " %s %#llx len %u",
		   rec->type == PCI_SIM_TLP_MRD ? "MRd" : "MWr", rec->addr,
		   rec->len);
	if (rec->flags & PCI_SIM_RECORD_PREFIX)
		seq_printf(s, " TH=1 PH=%u ST=0x%04x PREFIX", rec->ph, rec->st);
	else if (rec->flags & PCI_SIM_RECORD_TH)
		seq_printf(s, " TH=1 PH=%u ST=0x%02x", rec->ph, rec->st);
	else
		seq_puts(s, " TH=0");
	if (rec->flags & PCI_SIM_RECORD_PEER) {
		seq_puts(s, " PEER");
		pci_sim_show_bdf(s, rec->domain, rec->target);
	}
}

static int pci_sim_trace_show(struct seq_file *s, void *v)
{
	const struct pci_sim_record *rec = v;

	seq_printf(s, "%7llu", rec->seq);
	pci_sim_show_bdf(s, rec->domain, rec->bdf);

	switch (rec->type) {
	case PCI_SIM_CFG_READ:
	case PCI_SIM_CFG_WRITE:
		seq_printf(s, " Cfg%s 0x%03llx %u = 0x%0*x",
			   rec->type == PCI_SIM_CFG_READ ? "Rd" : "Wr",
			   rec->addr, rec->len, 2 * rec->len, rec->value);
		break;
	case PCI_SIM_TLP_MRD:
	case PCI_SIM_TLP_MWR:
		pci_sim_show_tlp(s, rec);
		break;
	case PCI_SIM_TLP_MSI:
		seq_printf(s, " MSI vector %u", rec->value);
		break;
	case PCI_SIM_RESET:
		seq_printf(s, " Reset %s", pci_sim_resets[rec->value]);
		break;
	case PCI_SIM_VIOLATION:
		seq_printf(s, " Violation %s 0x%llx",
			   pci_sim_violation_names[rec->value], rec->addr);
		break;
	case PCI_SIM_ERROR:
		seq_printf(s, " Error %s", pci_sim_errors[rec->value]);
		break;
	}

	if (rec->fate != PCI_SIM_FATE_OK)
		seq_printf(s, " %s", pci_sim_fates[rec->fate]);
	seq_putc(s, '\n');
	return 0;
}

/* The position in the file is the sequence number */
static void *pci_sim_trace_get(struct seq_file *s, loff_t *pos)
{
	u64 seq = *pos;

	scoped_guard(raw_spinlock_irqsave, &pci_sim_lock)
		seq = max(seq, pci_sim_text_seq);

	if (!pci_sim_fetch(s->private, 1, &seq))
		return NULL;

	*pos = seq - 1;
	return s->private;
}

static void *pci_sim_trace_next(struct seq_file *s, void *v, loff_t *pos)
{
	++*pos;
	return pci_sim_trace_get(s, pos);
}

static void pci_sim_trace_stop(struct seq_file *s, void *v)
{
}

static const struct seq_operations pci_sim_trace_sops = {
	.start	= pci_sim_trace_get,
	.next	= pci_sim_trace_next,
	.stop	= pci_sim_trace_stop,
	.show	= pci_sim_trace_show,
};

static int pci_sim_trace_open(struct inode *inode, struct file *file)
{
	return seq_open_private(file, &pci_sim_trace_sops,
				sizeof(struct pci_sim_record));
}

static ssize_t pci_sim_trace_write(struct file *file, const char __user *buf,
				   size_t count, loff_t *pos)
{
	guard(raw_spinlock_irqsave)(&pci_sim_lock);
	pci_sim_text_seq = pci_sim_next_seq;
	return count;
}

static const struct file_operations pci_sim_trace_fops = {
	.owner		= THIS_MODULE,
	.open		= pci_sim_trace_open,
	.read		= seq_read,
	.write		= pci_sim_trace_write,
	.llseek		= seq_lseek,
	.release	= seq_release_private,
};

static int pci_sim_violations_show(struct seq_file *s, void *v)
{
	u64 violations;

	scoped_guard(raw_spinlock_irqsave, &pci_sim_lock)
		violations = pci_sim_violations;
	seq_printf(s, "%llu\n", violations);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(pci_sim_violations);

/**
 * pci_sim_analyzer_init() - create /dev/pci-sim and the files in debugfs
 *
 * Return: 0; -ENOMEM; an error of misc_register().
 */
int __init pci_sim_analyzer_init(void)
{
	int ret;

	pci_sim_records = vcalloc(PCI_SIM_NR_RECORDS, sizeof(*pci_sim_records));
	if (!pci_sim_records)
		return -ENOMEM;

	ret = misc_register(&pci_sim_misc);
	if (ret) {
		vfree(pci_sim_records);
		return ret;
	}

	pci_sim_debugfs = debugfs_create_dir("pci-sim", NULL);
	debugfs_create_file("trace", 0600, pci_sim_debugfs, NULL,
			    &pci_sim_trace_fops);
	debugfs_create_file("violations", 0400, pci_sim_debugfs, NULL,
			    &pci_sim_violations_fops);
	return 0;
}

/**
 * pci_sim_analyzer_exit() - remove /dev/pci-sim and the files in debugfs
 */
void pci_sim_analyzer_exit(void)
{
	debugfs_remove_recursive(pci_sim_debugfs);
	misc_deregister(&pci_sim_misc);
	vfree(pci_sim_records);
}
