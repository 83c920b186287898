// SPDX-License-Identifier: GPL-2.0-only
/*
 * Simulated PCIe hierarchy for tests: importer and exporter of dma-bufs
 *
 * A driver for endpoints of pci-sim, which is bound to them on demand alone
 * (driver_override), and /dev/pci-sim-dmabuf to tell it what to do.
 */
#include <linux/bitfield.h>
#include <linux/cleanup.h>
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/iopoll.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/overflow.h>
#include <linux/pci.h>
#include <linux/pci-tph.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include <uapi/linux/pci_sim.h>

#define PCI_SIM_DMABUF_NAME	"pci-sim-dmabuf"

/**
 * struct pci_sim_port - endpoint that this driver is bound to
 * @list: entry in pci_sim_ports
 * @importers: files that are attached for it
 * @pdev: endpoint
 * @desc: where its engine reads the descriptor
 * @vsec: capability that drives the engine
 */
struct pci_sim_port {
	struct list_head list;
	struct list_head importers;
	struct pci_dev *pdev;
	void __iomem *desc;
	u16 vsec;
};

/**
 * struct pci_sim_importer - an open file
 * @list: entry in the importers of @port
 * @port: endpoint that is attached, NULL without
 * @attach: attachment of @port
 */
struct pci_sim_importer {
	struct list_head list;
	struct pci_sim_port *port;
	struct dma_buf_attachment *attach;
};

/*
 * Protects the list of endpoints and all importers. The reservation locks of
 * dma-bufs are taken under it.
 */
static DEFINE_MUTEX(pci_sim_dmabuf_lock);
static LIST_HEAD(pci_sim_ports);

/*
 * Exporter: memory, with the Steering Tags of a CPU as the requester's host
 * bridge knows it
 */

struct pci_sim_memory {
	void *vaddr;
	size_t size;
	unsigned int cpu;
};

/*
 * The firmware is asked once, since the answer has to be the same for as long as
 * the attachment is there. What cannot be found out is that there are no hints.
 */
static int pci_sim_memory_attach(struct dma_buf *dmabuf,
				 struct dma_buf_attachment *attach)
{
	const struct pci_sim_memory *memory = dmabuf->priv;
	struct pcie_tph_cpu_st *st = kzalloc_obj(*st);

	if (!st)
		return -ENOMEM;

	if (dev_is_pci(attach->dev) &&
	    pcie_tph_has_cpu_st(to_pci_dev(attach->dev)))
		pcie_tph_get_cpu_st_all(to_pci_dev(attach->dev), memory->cpu,
					st);

	attach->priv = st;
	return 0;
}

static void pci_sim_memory_detach(struct dma_buf *dmabuf,
				  struct dma_buf_attachment *attach)
{
	kfree(attach->priv);
}

static int pci_sim_memory_get_tph(struct dma_buf_attachment *attach,
				  bool extended, u16 *steering_tag, u8 *ph)
{
	const struct pcie_tph_cpu_st *st = attach->priv;

	if (!(extended ? st->mem[TPH_MEM_TYPE_VM].xst_valid :
			 st->mem[TPH_MEM_TYPE_VM].st_valid))
		return -EOPNOTSUPP;

	*steering_tag = extended ? st->mem[TPH_MEM_TYPE_VM].xst :
				   st->mem[TPH_MEM_TYPE_VM].st;
	*ph = 0;
	return 0;
}

static struct sg_table *
pci_sim_memory_map(struct dma_buf_attachment *attach,
		   enum dma_data_direction dir)
{
	const struct pci_sim_memory *memory = attach->dmabuf->priv;
	struct sg_table *sgt;
	int ret;

	sgt = kzalloc_obj(*sgt);
	if (!sgt)
		return ERR_PTR(-ENOMEM);

	ret = sg_alloc_table(sgt, 1, GFP_KERNEL);
	if (ret)
		goto err_free;

	sg_set_page(sgt->sgl, virt_to_page(memory->vaddr), memory->size, 0);
	ret = dma_map_sgtable(attach->dev, sgt, dir, 0);
	if (ret)
		goto err_free_table;

	return sgt;

err_free_table:
	sg_free_table(sgt);
err_free:
	kfree(sgt);
	return ERR_PTR(ret);
}

static void pci_sim_memory_unmap(struct dma_buf_attachment *attach,
				 struct sg_table *sgt,
				 enum dma_data_direction dir)
{
	dma_unmap_sgtable(attach->dev, sgt, dir, 0);
	sg_free_table(sgt);
	kfree(sgt);
}

static int pci_sim_memory_mmap(struct dma_buf *dmabuf,
			       struct vm_area_struct *vma)
{
	const struct pci_sim_memory *memory = dmabuf->priv;
	unsigned long pfn = PHYS_PFN(virt_to_phys(memory->vaddr));

	return remap_pfn_range(vma, vma->vm_start, pfn + vma->vm_pgoff,
			       vma->vm_end - vma->vm_start, vma->vm_page_prot);
}

static void pci_sim_memory_release(struct dma_buf *dmabuf)
{
	struct pci_sim_memory *memory = dmabuf->priv;

	free_pages_exact(memory->vaddr, memory->size);
	kfree(memory);
}

static const struct dma_buf_ops pci_sim_memory_ops = {
	.attach		= pci_sim_memory_attach,
	.detach		= pci_sim_memory_detach,
	.get_tph	= pci_sim_memory_get_tph,
	.map_dma_buf	= pci_sim_memory_map,
	.unmap_dma_buf	= pci_sim_memory_unmap,
	.mmap		= pci_sim_memory_mmap,
	.release	= pci_sim_memory_release,
};

static struct dma_buf *pci_sim_memory_create(size_t size, unsigned int cpu)
{
	struct pci_sim_memory *memory __free(kfree) = kzalloc_obj(*memory);
	DEFINE_DMA_BUF_EXPORT_INFO(exp_info);
	struct dma_buf *dmabuf;

	if (!memory)
		return ERR_PTR(-ENOMEM);

	memory->cpu = cpu;
	memory->size = size;
	memory->vaddr = alloc_pages_exact(size, GFP_KERNEL | __GFP_ZERO);
	if (!memory->vaddr)
		return ERR_PTR(-ENOMEM);

	exp_info.ops = &pci_sim_memory_ops;
	exp_info.size = size;
	exp_info.flags = O_RDWR;
	exp_info.priv = memory;
	dmabuf = dma_buf_export(&exp_info);
	if (IS_ERR(dmabuf))
		free_pages_exact(memory->vaddr, size);
	else
		retain_and_null_ptr(memory);

	return dmabuf;
}

static int pci_sim_dmabuf_export(void __user *arg)
{
	struct pci_sim_dmabuf_export export;
	struct dma_buf *dmabuf;
	int fd, ret;

	if (copy_from_user(&export, arg, sizeof(export)))
		return -EFAULT;

	if (!export.size || !PAGE_ALIGNED(export.size) ||
	    export.size > PAGE_SIZE << MAX_PAGE_ORDER ||
	    export.cpu >= nr_cpu_ids)
		return -EINVAL;

	/* No way around the cpuset, which vfio looks at as well */
	ret = pcie_tph_check_cpu(export.cpu);
	if (ret)
		return ret;

	dmabuf = pci_sim_memory_create(export.size, export.cpu);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);

	fd = dma_buf_fd(dmabuf, O_CLOEXEC);
	if (fd < 0)
		dma_buf_put(dmabuf);
	return fd;
}

/*
 * Importer
 */

/* Mappings exist under the reservation lock alone, so there are none here */
static void pci_sim_importer_invalidate(struct dma_buf_attachment *attach)
{
}

static const struct dma_buf_attach_ops pci_sim_importer_ops = {
	.allow_peer2peer	= true,
	.invalidate_mappings	= pci_sim_importer_invalidate,
};

static void pci_sim_importer_detach(struct pci_sim_importer *importer)
{
	struct dma_buf *dmabuf;

	lockdep_assert_held(&pci_sim_dmabuf_lock);

	if (!importer->attach)
		return;

	dmabuf = importer->attach->dmabuf;
	dma_buf_detach(dmabuf, importer->attach);
	dma_buf_put(dmabuf);
	list_del(&importer->list);
	importer->attach = NULL;
	importer->port = NULL;
}

static struct pci_sim_port *pci_sim_port_find(u16 domain, u16 bdf)
{
	struct pci_sim_port *port;

	list_for_each_entry(port, &pci_sim_ports, list) {
		if (pci_domain_nr(port->pdev->bus) == domain &&
		    pci_dev_id(port->pdev) == bdf)
			return port;
	}

	return NULL;
}

static int pci_sim_importer_attach(struct pci_sim_importer *importer,
				   void __user *arg)
{
	struct pci_sim_dmabuf_attach args;
	struct dma_buf_attachment *attach;
	struct pci_sim_port *port;
	struct dma_buf *dmabuf;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;

	if (importer->attach)
		return -EBUSY;

	port = pci_sim_port_find(args.domain, args.bdf);
	if (!port)
		return -ENXIO;

	dmabuf = dma_buf_get(args.fd);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);

	attach = dma_buf_dynamic_attach(dmabuf, &port->pdev->dev,
					&pci_sim_importer_ops, importer);
	if (IS_ERR(attach)) {
		dma_buf_put(dmabuf);
		return PTR_ERR(attach);
	}

	importer->attach = attach;
	importer->port = port;
	list_add(&importer->list, &port->importers);
	return 0;
}

static int pci_sim_importer_get_tph(struct pci_sim_importer *importer,
				    void __user *arg)
{
	struct pci_sim_dmabuf_tph tph;
	struct dma_buf *dmabuf;
	int ret;

	if (copy_from_user(&tph, arg, sizeof(tph)))
		return -EFAULT;

	if (tph.extended > 1 || tph.reserved)
		return -EINVAL;

	if (!importer->attach)
		return -ENOTCONN;

	dmabuf = importer->attach->dmabuf;
	dma_resv_lock(dmabuf->resv, NULL);
	ret = dma_buf_get_tph(importer->attach, tph.extended, &tph.st, &tph.ph);
	dma_resv_unlock(dmabuf->resv);

	/* Also after an error, so that tests see that nothing was stored */
	return copy_to_user(arg, &tph, sizeof(tph)) ? -EFAULT : ret;
}

static int pci_sim_port_run(struct pci_sim_port *port,
			    const struct pci_sim_desc *desc)
{
	struct pci_dev *pdev = port->pdev;
	u32 status = 0;
	int ret;

	memcpy_toio(port->desc, desc, sizeof(*desc));
	pci_write_config_dword(pdev, port->vsec + PCI_SIM_ENGINE_CTRL,
			       PCI_SIM_ENGINE_GO);

	ret = read_poll_timeout(pci_read_config_dword, ret,
				ret || !(status & PCI_SIM_ENGINE_BUSY),
				100, 10 * USEC_PER_SEC, true, pdev,
				port->vsec + PCI_SIM_ENGINE_STATUS, &status) ?:
	      pcibios_err_to_errno(ret);
	if (ret)
		return ret;

	return status & PCI_SIM_ENGINE_ERROR ? -EIO : 0;
}

/*
 * Vector 0 is the one that the requests belong to. Where its tag is in the MSI-X
 * table it has an interrupt for the time of the request, as that of a queue.
 */
static int pci_sim_port_run_with_st(struct pci_sim_port *port,
				    const struct pci_sim_desc *desc, u16 st)
{
	struct pci_dev *pdev = port->pdev;
	u32 loc = pcie_tph_get_st_table_loc(pdev);
	struct msi_map map = {};
	int ret;

	if (pcie_tph_enabled_req_type(pdev) == PCI_TPH_REQ_DISABLE ||
	    loc == PCI_TPH_LOC_NONE)
		return pci_sim_port_run(port, desc);

	if (loc == PCI_TPH_LOC_MSIX) {
		map = pci_msix_alloc_irq_at(pdev, 0, NULL);
		if (map.index < 0)
			return map.index;
	}

	ret = pcie_tph_set_st_entry(pdev, 0, st) ?: pci_sim_port_run(port, desc);

	if (loc == PCI_TPH_LOC_MSIX)
		pci_msix_free_irq(pdev, map);
	return ret;
}

/* With the reservation lock held, so that neither mapping nor hints go away */
static int pci_sim_port_write(struct pci_sim_port *port,
			      struct dma_buf_attachment *attach,
			      const struct pci_sim_dmabuf_write *write)
{
	u8 type = pcie_tph_enabled_req_type(port->pdev);
	struct pci_sim_desc desc = {
		.op = cpu_to_le32(PCI_SIM_OP_WRITE),
		.src = cpu_to_le64(write->pattern),
		.len = cpu_to_le32(write->len),
	};
	struct sg_table *sgt;
	u16 st = 0;
	int ret;

	if (type == PCI_TPH_REQ_DISABLE ||
	    dma_buf_get_tph(attach, type == PCI_TPH_REQ_EXT_TPH, &st, &desc.ph))
		desc.ph = 0;
	desc.st = cpu_to_le16(st);

	sgt = dma_buf_map_attachment(attach, DMA_FROM_DEVICE);
	if (IS_ERR(sgt))
		return PTR_ERR(sgt);

	desc.dst = cpu_to_le64(sg_dma_address(sgt->sgl) + write->offset);
	ret = -EINVAL;
	if (sg_dma_len(sgt->sgl) >= size_add(write->offset, write->len))
		ret = pci_sim_port_run_with_st(port, &desc, st);

	dma_buf_unmap_attachment(attach, sgt, DMA_FROM_DEVICE);
	return ret;
}

static int pci_sim_importer_write(struct pci_sim_importer *importer,
				  void __user *arg)
{
	struct pci_sim_dmabuf_write write;
	struct dma_buf *dmabuf;
	int ret;

	if (copy_from_user(&write, arg, sizeof(write)))
		return -EFAULT;

	if (!importer->attach)
		return -ENOTCONN;

	dmabuf = importer->attach->dmabuf;
	dma_resv_lock(dmabuf->resv, NULL);
	ret = pci_sim_port_write(importer->port, importer->attach, &write);
	dma_resv_unlock(dmabuf->resv);
	return ret;
}

/*
 * /dev/pci-sim-dmabuf
 */

static int pci_sim_dmabuf_open(struct inode *inode, struct file *file)
{
	file->private_data = kzalloc_obj(struct pci_sim_importer);
	return file->private_data ? 0 : -ENOMEM;
}

static int pci_sim_dmabuf_close(struct inode *inode, struct file *file)
{
	struct pci_sim_importer *importer = file->private_data;

	scoped_guard(mutex, &pci_sim_dmabuf_lock)
		pci_sim_importer_detach(importer);
	kfree(importer);
	return 0;
}

static long pci_sim_dmabuf_ioctl(struct file *file, unsigned int cmd,
				 unsigned long arg)
{
	struct pci_sim_importer *importer = file->private_data;
	void __user *uarg = (void __user *)arg;

	if (cmd == PCI_SIM_DMABUF_EXPORT)
		return pci_sim_dmabuf_export(uarg);

	guard(mutex)(&pci_sim_dmabuf_lock);

	switch (cmd) {
	case PCI_SIM_DMABUF_ATTACH:
		return pci_sim_importer_attach(importer, uarg);
	case PCI_SIM_DMABUF_GET_TPH:
		return pci_sim_importer_get_tph(importer, uarg);
	case PCI_SIM_DMABUF_WRITE:
		return pci_sim_importer_write(importer, uarg);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations pci_sim_dmabuf_fops = {
	.owner		= THIS_MODULE,
	.open		= pci_sim_dmabuf_open,
	.release	= pci_sim_dmabuf_close,
	.unlocked_ioctl	= pci_sim_dmabuf_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
};

static struct miscdevice pci_sim_dmabuf_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= PCI_SIM_DMABUF_NAME,
	.fops	= &pci_sim_dmabuf_fops,
	.mode	= 0600,
};

/*
 * Driver
 */

/* Interrupts are made for requests; MSI-X cannot be enabled without any */
static int pci_sim_port_enable_msix(struct pci_dev *pdev)
{
	struct msi_map map = {};
	int ret;

	if (pcie_tph_get_st_table_loc(pdev) != PCI_TPH_LOC_MSIX)
		return 0;

	ret = pci_alloc_irq_vectors(pdev, 1, 1, PCI_IRQ_MSIX);
	if (ret < 0)
		return ret;

	map.virq = pci_irq_vector(pdev, 0);
	pci_msix_free_irq(pdev, map);
	return 0;
}

/* As much of TPH as the endpoint and its path have, in any mode with tags */
static void pci_sim_port_enable_tph(struct pci_dev *pdev)
{
	if (pci_sim_port_enable_msix(pdev) < 0 ||
	    (pcie_enable_tph(pdev, PCI_TPH_ST_DS_MODE) &&
	     pcie_enable_tph(pdev, PCI_TPH_ST_IV_MODE)))
		pci_dbg(pdev, "no TPH\n");
}

static int pci_sim_port_probe(struct pci_dev *pdev,
			      const struct pci_device_id *id)
{
	struct pci_sim_port *port;
	int ret;

	port = devm_kzalloc(&pdev->dev, sizeof(*port), GFP_KERNEL);
	if (!port)
		return -ENOMEM;

	port->pdev = pdev;
	INIT_LIST_HEAD(&port->importers);
	port->vsec = pci_find_vsec_capability(pdev, PCI_SIM_VENDOR_ID,
					      PCI_SIM_VSEC_ID);
	if (!port->vsec)
		return -ENODEV;

	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;

	port->desc = pcim_iomap_region(pdev, PCI_SIM_DESC_BAR,
				       PCI_SIM_DMABUF_NAME);
	if (IS_ERR(port->desc))
		return PTR_ERR(port->desc);

	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (ret)
		return ret;

	pci_set_master(pdev);
	pci_sim_port_enable_tph(pdev);
	pci_set_drvdata(pdev, port);

	guard(mutex)(&pci_sim_dmabuf_lock);
	list_add(&port->list, &pci_sim_ports);
	return 0;
}

static void pci_sim_port_remove(struct pci_dev *pdev)
{
	struct pci_sim_port *port = pci_get_drvdata(pdev);
	struct pci_sim_importer *importer, *tmp;

	scoped_guard(mutex, &pci_sim_dmabuf_lock) {
		list_for_each_entry_safe(importer, tmp, &port->importers, list)
			pci_sim_importer_detach(importer);
		list_del(&port->list);
	}

	pcie_disable_tph(pdev);
	pci_clear_master(pdev);
}

/* A driver that wants a reset for every error, and with it one of its neighbours */
static pci_ers_result_t pci_sim_port_error_detected(struct pci_dev *pdev,
						    pci_channel_state_t state)
{
	return state == pci_channel_io_perm_failure ?
	       PCI_ERS_RESULT_DISCONNECT : PCI_ERS_RESULT_NEED_RESET;
}

static pci_ers_result_t pci_sim_port_slot_reset(struct pci_dev *pdev)
{
	pci_restore_state(pdev);
	pci_set_master(pdev);
	return PCI_ERS_RESULT_RECOVERED;
}

static const struct pci_error_handlers pci_sim_port_err_handler = {
	.error_detected	= pci_sim_port_error_detected,
	.slot_reset	= pci_sim_port_slot_reset,
};

static struct pci_driver pci_sim_port_driver = {
	.name		= PCI_SIM_DMABUF_NAME,
	/* No table: only endpoints whose driver_override has the name */
	.probe		= pci_sim_port_probe,
	.remove		= pci_sim_port_remove,
	.err_handler	= &pci_sim_port_err_handler,
};

static int __init pci_sim_dmabuf_init(void)
{
	int ret;

	ret = pci_register_driver(&pci_sim_port_driver);
	if (ret)
		return ret;

	ret = misc_register(&pci_sim_dmabuf_misc);
	if (ret)
		pci_unregister_driver(&pci_sim_port_driver);
	return ret;
}
module_init(pci_sim_dmabuf_init);

static void __exit pci_sim_dmabuf_exit(void)
{
	misc_deregister(&pci_sim_dmabuf_misc);
	pci_unregister_driver(&pci_sim_port_driver);
}
module_exit(pci_sim_dmabuf_exit);

MODULE_DESCRIPTION("Importer and exporter of dma-bufs on simulated PCIe endpoints");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("DMA_BUF");
