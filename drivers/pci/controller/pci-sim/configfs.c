// SPDX-License-Identifier: GPL-2.0-only
/*
 * Simulated PCIe hierarchy for tests: description in configfs
 */
#include <linux/array_size.h>
#include <linux/cleanup.h>
#include <linux/configfs.h>
#include <linux/kstrtox.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/sysfs.h>

#include "pci-sim.h"

static struct pci_sim_fabric *to_pci_sim_fabric(struct config_item *item)
{
	return container_of(to_config_group(item), struct pci_sim_fabric,
			    group);
}

static struct pci_sim_node *to_pci_sim_node(struct config_item *item)
{
	return container_of(to_config_group(item), struct pci_sim_node, group);
}

/*
 * Attributes: numbers that describe a component
 */

static ssize_t pci_sim_show_u32(struct config_item *item, size_t offset,
				char *page)
{
	struct pci_sim_node *node = to_pci_sim_node(item);

	guard(mutex)(&node->fabric->lock);
	return sysfs_emit(page, "%u\n", *(u32 *)((void *)node + offset));
}

static ssize_t pci_sim_store_u32(struct config_item *item, size_t offset,
				 u32 max, const char *page, size_t count)
{
	struct pci_sim_node *node = to_pci_sim_node(item);
	u32 val;
	int ret;

	ret = kstrtou32(page, 0, &val);
	if (ret)
		return ret;
	if (val > max)
		return -EINVAL;

	guard(mutex)(&node->fabric->lock);
	if (node->fabric->live)
		return -EBUSY;

	*(u32 *)((void *)node + offset) = val;
	return count;
}

#define PCI_SIM_SHOW(_name)						\
static ssize_t pci_sim_##_name##_show(struct config_item *item,		\
				      char *page)			\
{									\
	return pci_sim_show_u32(item, offsetof(struct pci_sim_node, _name), \
				page);					\
}

#define PCI_SIM_STORE(_name, _max)					\
static ssize_t pci_sim_##_name##_store(struct config_item *item,	\
				       const char *page, size_t count)	\
{									\
	return pci_sim_store_u32(item, offsetof(struct pci_sim_node, _name), \
				 _max, page, count);			\
}

PCI_SIM_SHOW(aer)
PCI_SIM_STORE(aer, 1)
CONFIGFS_ATTR(pci_sim_, aer);

PCI_SIM_SHOW(acs)
PCI_SIM_STORE(acs, 1)
CONFIGFS_ATTR(pci_sim_, acs);

PCI_SIM_SHOW(bus_reset)
PCI_SIM_STORE(bus_reset, 1)
CONFIGFS_ATTR(pci_sim_, bus_reset);

PCI_SIM_SHOW(vendor)
PCI_SIM_STORE(vendor, U16_MAX - 1)
CONFIGFS_ATTR(pci_sim_, vendor);

PCI_SIM_SHOW(flit)
PCI_SIM_STORE(flit, 1)
CONFIGFS_ATTR(pci_sim_, flit);

PCI_SIM_SHOW(prefixes)
PCI_SIM_STORE(prefixes, PCI_SIM_PREFIXES_MAX)
CONFIGFS_ATTR(pci_sim_, prefixes);

PCI_SIM_SHOW(prefix_block)
PCI_SIM_STORE(prefix_block, 1)
CONFIGFS_ATTR(pci_sim_, prefix_block);

PCI_SIM_SHOW(pasid)
PCI_SIM_STORE(pasid, 1)
CONFIGFS_ATTR(pci_sim_, pasid);

PCI_SIM_SHOW(tph_completer)
PCI_SIM_STORE(tph_completer, 3)
CONFIGFS_ATTR(pci_sim_, tph_completer);

PCI_SIM_SHOW(forward_hints)
PCI_SIM_STORE(forward_hints, 1)
CONFIGFS_ATTR(pci_sim_, forward_hints);

PCI_SIM_SHOW(tph)
PCI_SIM_STORE(tph, 1)
CONFIGFS_ATTR(pci_sim_, tph);

PCI_SIM_SHOW(tph_modes)
PCI_SIM_STORE(tph_modes, 7)
CONFIGFS_ATTR(pci_sim_, tph_modes);

PCI_SIM_SHOW(tph_ext)
PCI_SIM_STORE(tph_ext, 1)
CONFIGFS_ATTR(pci_sim_, tph_ext);

PCI_SIM_SHOW(tph_loc)
PCI_SIM_STORE(tph_loc, 3)
CONFIGFS_ATTR(pci_sim_, tph_loc);

PCI_SIM_SHOW(tph_st_size)
PCI_SIM_STORE(tph_st_size, 2047)
CONFIGFS_ATTR(pci_sim_, tph_st_size);

PCI_SIM_SHOW(tph_pos)
PCI_SIM_STORE(tph_pos, PCI_CFG_SPACE_EXP_SIZE - PCI_TPH_BASE_SIZEOF)
CONFIGFS_ATTR(pci_sim_, tph_pos);

PCI_SIM_SHOW(associated)
PCI_SIM_STORE(associated, U32_MAX)
CONFIGFS_ATTR(pci_sim_, associated);

PCI_SIM_SHOW(msi)
PCI_SIM_STORE(msi, 1)
CONFIGFS_ATTR(pci_sim_, msi);

PCI_SIM_SHOW(msix)
PCI_SIM_STORE(msix, PCI_SIM_MSIX_MAX)
CONFIGFS_ATTR(pci_sim_, msix);

PCI_SIM_SHOW(flr)
PCI_SIM_STORE(flr, 1)
CONFIGFS_ATTR(pci_sim_, flr);

PCI_SIM_SHOW(af_flr)
PCI_SIM_STORE(af_flr, 1)
CONFIGFS_ATTR(pci_sim_, af_flr);

PCI_SIM_SHOW(no_soft_reset)
PCI_SIM_STORE(no_soft_reset, 1)
CONFIGFS_ATTR(pci_sim_, no_soft_reset);

/*
 * Attributes: the hardware's view, while the fabric is live
 */

static ssize_t pci_sim_bdf_show(struct config_item *item, char *page)
{
	struct pci_sim_node *node = to_pci_sim_node(item);
	u16 bdf;

	guard(mutex)(&node->fabric->lock);
	if (!node->fn)
		return -ENODEV;

	scoped_guard(raw_spinlock_irqsave, &pci_sim_lock) {
		if (!pci_sim_exists(node->fn))
			return -ENODEV;
		bdf = node->fn->bdf;
	}
	return sysfs_emit(page, "%04x:%02x:%02x.%x\n",
			  node->fn->host->sysdata.domain, PCI_BUS_NUM(bdf),
			  PCI_SLOT(bdf), PCI_FUNC(bdf));
}
CONFIGFS_ATTR_RO(pci_sim_, bdf);

static ssize_t pci_sim_tph_reg_show(struct pci_sim_node *node,
				    unsigned int offset, char *page)
{
	u32 value;

	guard(mutex)(&node->fabric->lock);
	if (!node->fn || !node->fn->tph)
		return -ENODEV;

	scoped_guard(raw_spinlock_irqsave, &pci_sim_lock)
		value = pci_sim_get32(node->fn, node->fn->tph + offset);
	return sysfs_emit(page, "0x%08x\n", value);
}

static ssize_t pci_sim_tph_cap_show(struct config_item *item, char *page)
{
	return pci_sim_tph_reg_show(to_pci_sim_node(item), PCI_TPH_CAP, page);
}

static ssize_t pci_sim_tph_cap_store(struct config_item *item, const char *page,
				     size_t count)
{
	struct pci_sim_node *node = to_pci_sim_node(item);
	struct pci_sim_reg *reg;
	u32 value;
	int ret;

	ret = kstrtou32(page, 0, &value);
	if (ret)
		return ret;

	guard(mutex)(&node->fabric->lock);
	if (!node->fn || !node->fn->tph)
		return -ENODEV;

	reg = &node->fn->reg[(node->fn->tph + PCI_TPH_CAP) / 4];
	guard(raw_spinlock_irqsave)(&pci_sim_lock);
	reg->value = value;
	reg->reset = value;
	return count;
}
CONFIGFS_ATTR(pci_sim_, tph_cap);

static ssize_t pci_sim_tph_ctrl_show(struct config_item *item, char *page)
{
	return pci_sim_tph_reg_show(to_pci_sim_node(item), PCI_TPH_CTRL, page);
}
CONFIGFS_ATTR_RO(pci_sim_, tph_ctrl);

static ssize_t pci_sim_st_table_read(struct config_item *item, void *data,
				     size_t size)
{
	struct pci_sim_node *node = to_pci_sim_node(item);
	unsigned int i, entries;
	__le16 *table = data;

	guard(mutex)(&node->fabric->lock);
	if (!node->fn)
		return -ENODEV;

	guard(raw_spinlock_irqsave)(&pci_sim_lock);
	entries = pci_sim_st_entries(node->fn);
	if (!data)
		return entries * sizeof(*table);

	entries = min(entries, size / sizeof(*table));
	for (i = 0; i < entries; i++)
		table[i] = cpu_to_le16(pci_sim_st_entry(node->fn, i));
	return entries * sizeof(*table);
}
CONFIGFS_BIN_ATTR_RO(pci_sim_, st_table, NULL,
		     PCI_SIM_MSIX_MAX * sizeof(__le16));

/* "OFFSET COUNT [SKIP]" */
static ssize_t pci_sim_fail_show(struct pci_sim_node *node, bool write,
				 char *page)
{
	struct pci_sim_fail fail;

	guard(mutex)(&node->fabric->lock);
	if (!node->fn)
		return -ENODEV;

	scoped_guard(raw_spinlock_irqsave, &pci_sim_lock)
		fail = write ? node->fn->fail_write : node->fn->fail_read;
	return sysfs_emit(page, "0x%03x %u %u\n", fail.where, fail.count,
			  fail.skip);
}

static ssize_t pci_sim_fail_store(struct pci_sim_node *node, bool write,
				  const char *page, size_t count)
{
	int where, times, skip = 0;
	struct pci_sim_fail fail;

	if (sscanf(page, "%i %i %i", &where, &times, &skip) < 2 || where < 0 ||
	    where >= PCI_CFG_SPACE_EXP_SIZE || times < 0 || skip < 0)
		return -EINVAL;

	fail.where = where & ~3;
	fail.count = times;
	fail.skip = skip;

	guard(mutex)(&node->fabric->lock);
	if (!node->fn)
		return -ENODEV;

	guard(raw_spinlock_irqsave)(&pci_sim_lock);
	if (write)
		node->fn->fail_write = fail;
	else
		node->fn->fail_read = fail;
	return count;
}

static ssize_t pci_sim_fail_read_show(struct config_item *item, char *page)
{
	return pci_sim_fail_show(to_pci_sim_node(item), false, page);
}

static ssize_t pci_sim_fail_read_store(struct config_item *item,
				       const char *page, size_t count)
{
	return pci_sim_fail_store(to_pci_sim_node(item), false, page, count);
}
CONFIGFS_ATTR(pci_sim_, fail_read);

static ssize_t pci_sim_fail_write_show(struct config_item *item, char *page)
{
	return pci_sim_fail_show(to_pci_sim_node(item), true, page);
}

static ssize_t pci_sim_fail_write_store(struct config_item *item,
					const char *page, size_t count)
{
	return pci_sim_fail_store(to_pci_sim_node(item), true, page, count);
}
CONFIGFS_ATTR(pci_sim_, fail_write);

static ssize_t pci_sim_error_store(struct config_item *item, const char *page,
				   size_t count)
{
	static const char * const names[] = {
		[PCI_SIM_ERROR_COR]		= "correctable",
		[PCI_SIM_ERROR_NONFATAL]	= "nonfatal",
		[PCI_SIM_ERROR_FATAL]		= "fatal",
	};
	struct pci_sim_node *node = to_pci_sim_node(item);
	unsigned int error;

	for (error = PCI_SIM_ERROR_COR; error < ARRAY_SIZE(names); error++)
		if (sysfs_streq(page, names[error]))
			break;
	if (error == ARRAY_SIZE(names))
		return -EINVAL;

	guard(mutex)(&node->fabric->lock);
	if (!node->fn || !node->fn->aer)
		return -ENODEV;

	guard(raw_spinlock_irqsave)(&pci_sim_lock);
	pci_sim_aer_detect(node->fn, error);
	return count;
}
CONFIGFS_ATTR_WO(pci_sim_, error);

static ssize_t pci_sim_reset_store(struct config_item *item, const char *page,
				   size_t count)
{
	struct pci_sim_node *node = to_pci_sim_node(item);
	bool reset;
	int ret;

	ret = kstrtobool(page, &reset);
	if (ret)
		return ret;
	if (!reset)
		return -EINVAL;

	guard(mutex)(&node->fabric->lock);
	if (!node->fn)
		return -ENODEV;

	guard(raw_spinlock_irqsave)(&pci_sim_lock);
	if (!pci_sim_exists(node->fn))
		return -ENODEV;

	pci_sim_fn_reset(node->fn, PCI_SIM_RESET_BACKDOOR);
	return count;
}
CONFIGFS_ATTR_WO(pci_sim_, reset);

static ssize_t pci_sim_hang_show(struct config_item *item, char *page)
{
	struct pci_sim_node *node = to_pci_sim_node(item);
	bool hang;

	guard(mutex)(&node->fabric->lock);
	if (!node->fn)
		return -ENODEV;

	scoped_guard(raw_spinlock_irqsave, &pci_sim_lock)
		hang = node->fn->hang;
	return sysfs_emit(page, "%d\n", hang);
}

static ssize_t pci_sim_hang_store(struct config_item *item, const char *page,
				  size_t count)
{
	struct pci_sim_node *node = to_pci_sim_node(item);
	bool hang;
	int ret;

	ret = kstrtobool(page, &hang);
	if (ret)
		return ret;

	guard(mutex)(&node->fabric->lock);
	if (!node->fn)
		return -ENODEV;

	guard(raw_spinlock_irqsave)(&pci_sim_lock);
	node->fn->hang = hang;
	if (!hang)
		node->fn->hung = false;
	return count;
}
CONFIGFS_ATTR(pci_sim_, hang);

/*
 * Attributes of host bridges
 */

static ssize_t pci_sim_acpi_path_show(struct config_item *item, char *page)
{
	struct pci_sim_node *node = to_pci_sim_node(item);

	guard(mutex)(&node->fabric->lock);
	return sysfs_emit(page, "%s\n", node->acpi_path ?: "");
}

static ssize_t pci_sim_acpi_path_store(struct config_item *item,
				       const char *page, size_t count)
{
	struct pci_sim_node *node = to_pci_sim_node(item);
	ssize_t ret = count;
	char *path;

	path = kstrdup(skip_spaces(page), GFP_KERNEL);
	if (!path)
		return -ENOMEM;

	strim(path);
	scoped_guard(mutex, &node->fabric->lock) {
		if (node->fabric->live)
			ret = -EBUSY;
		else
			swap(path, node->acpi_path);
	}
	kfree(path);
	return ret;
}
CONFIGFS_ATTR(pci_sim_, acpi_path);

static ssize_t pci_sim_domain_show(struct config_item *item, char *page)
{
	struct pci_sim_node *node = to_pci_sim_node(item);

	guard(mutex)(&node->fabric->lock);
	return sysfs_emit(page, "0x%04x\n",
			  node->host ? node->host->sysdata.domain :
				       node->domain);
}

static ssize_t pci_sim_domain_store(struct config_item *item, const char *page,
				    size_t count)
{
	return pci_sim_store_u32(item, offsetof(struct pci_sim_node, domain),
				 PCI_SIM_DOMAIN_MAX, page, count);
}
CONFIGFS_ATTR(pci_sim_, domain);

static ssize_t pci_sim_dsm_calls_show(struct config_item *item, char *page)
{
	struct pci_sim_node *node = to_pci_sim_node(item);
	unsigned long long calls;

	guard(mutex)(&node->fabric->lock);
	if (!node->host || !node->host->companion)
		return -ENODEV;

	if (ACPI_FAILURE(acpi_evaluate_integer(node->host->companion->handle,
					       "CALL", NULL, &calls)))
		return -EIO;

	return sysfs_emit(page, "%llu\n", calls);
}
CONFIGFS_ATTR_RO(pci_sim_, dsm_calls);

/*
 * Kinds of components
 */

static struct configfs_attribute *pci_sim_host_attrs[] = {
	&pci_sim_attr_acpi_path,
	&pci_sim_attr_domain,
	&pci_sim_attr_dsm_calls,
	NULL
};

static struct configfs_attribute *pci_sim_root_port_attrs[] = {
	&pci_sim_attr_acs,
	&pci_sim_attr_aer,
	&pci_sim_attr_bdf,
	&pci_sim_attr_bus_reset,
	&pci_sim_attr_error,
	&pci_sim_attr_fail_read,
	&pci_sim_attr_fail_write,
	&pci_sim_attr_flit,
	&pci_sim_attr_forward_hints,
	&pci_sim_attr_prefix_block,
	&pci_sim_attr_prefixes,
	&pci_sim_attr_tph_completer,
	&pci_sim_attr_vendor,
	NULL
};

static struct configfs_attribute *pci_sim_upstream_attrs[] = {
	&pci_sim_attr_aer,
	&pci_sim_attr_bdf,
	&pci_sim_attr_bus_reset,
	&pci_sim_attr_error,
	&pci_sim_attr_fail_read,
	&pci_sim_attr_fail_write,
	&pci_sim_attr_prefix_block,
	&pci_sim_attr_prefixes,
	NULL
};

static struct configfs_attribute *pci_sim_downstream_attrs[] = {
	&pci_sim_attr_acs,
	&pci_sim_attr_aer,
	&pci_sim_attr_bdf,
	&pci_sim_attr_bus_reset,
	&pci_sim_attr_error,
	&pci_sim_attr_fail_read,
	&pci_sim_attr_fail_write,
	&pci_sim_attr_flit,
	&pci_sim_attr_prefix_block,
	&pci_sim_attr_prefixes,
	NULL
};

static struct configfs_attribute *pci_sim_endpoint_attrs[] = {
	&pci_sim_attr_aer,
	&pci_sim_attr_af_flr,
	&pci_sim_attr_bdf,
	&pci_sim_attr_error,
	&pci_sim_attr_fail_read,
	&pci_sim_attr_fail_write,
	&pci_sim_attr_flr,
	&pci_sim_attr_hang,
	&pci_sim_attr_msi,
	&pci_sim_attr_msix,
	&pci_sim_attr_no_soft_reset,
	&pci_sim_attr_pasid,
	&pci_sim_attr_prefixes,
	&pci_sim_attr_reset,
	&pci_sim_attr_tph,
	&pci_sim_attr_tph_cap,
	&pci_sim_attr_tph_completer,
	&pci_sim_attr_tph_ctrl,
	&pci_sim_attr_tph_ext,
	&pci_sim_attr_tph_loc,
	&pci_sim_attr_tph_modes,
	&pci_sim_attr_tph_pos,
	&pci_sim_attr_tph_st_size,
	NULL
};

static struct configfs_attribute *pci_sim_collector_attrs[] = {
	&pci_sim_attr_aer,
	&pci_sim_attr_associated,
	&pci_sim_attr_bdf,
	&pci_sim_attr_error,
	&pci_sim_attr_fail_read,
	&pci_sim_attr_fail_write,
	NULL
};

static struct configfs_attribute *pci_sim_vf_attrs[] = {
	&pci_sim_attr_bdf,
	&pci_sim_attr_fail_read,
	&pci_sim_attr_fail_write,
	&pci_sim_attr_flr,
	&pci_sim_attr_hang,
	&pci_sim_attr_msix,
	&pci_sim_attr_no_soft_reset,
	&pci_sim_attr_reset,
	&pci_sim_attr_tph,
	&pci_sim_attr_tph_cap,
	&pci_sim_attr_tph_ctrl,
	&pci_sim_attr_tph_ext,
	&pci_sim_attr_tph_loc,
	&pci_sim_attr_tph_modes,
	&pci_sim_attr_tph_pos,
	&pci_sim_attr_tph_st_size,
	NULL
};

static struct configfs_bin_attribute *pci_sim_endpoint_bin_attrs[] = {
	&pci_sim_attr_st_table,
	NULL
};

static void pci_sim_node_release(struct config_item *item)
{
	struct pci_sim_node *node = to_pci_sim_node(item);

	scoped_guard(mutex, &node->fabric->lock)
		list_del(&node->siblings);
	kfree(node->acpi_path);
	kfree(node);
}

static struct configfs_item_operations pci_sim_node_item_ops = {
	.release	= pci_sim_node_release,
};

static struct config_group *pci_sim_node_make(struct config_group *group,
					      const char *name);

static struct configfs_group_operations pci_sim_node_group_ops = {
	.make_group	= pci_sim_node_make,
};

#define PCI_SIM_LEAF_TYPE(_attrs, _bin_attrs) {				\
	.ct_item_ops	= &pci_sim_node_item_ops,			\
	.ct_attrs	= _attrs,					\
	.ct_bin_attrs	= _bin_attrs,					\
	.ct_owner	= THIS_MODULE,					\
}

#define PCI_SIM_GROUP_TYPE(_attrs, _bin_attrs) {			\
	.ct_item_ops	= &pci_sim_node_item_ops,			\
	.ct_group_ops	= &pci_sim_node_group_ops,			\
	.ct_attrs	= _attrs,					\
	.ct_bin_attrs	= _bin_attrs,					\
	.ct_owner	= THIS_MODULE,					\
}

/**
 * struct pci_sim_kind_info - what there is to know about a kind of component
 * @prefix: how names of its directories begin
 * @parents: kinds of components that it can be below
 * @max: greatest number, of a function at the end of a link and of a device
 *	elsewhere
 * @type: for configfs
 */
struct pci_sim_kind_info {
	const char *prefix;
	unsigned long parents;
	u8 max;
	struct config_item_type type;
};

static const struct pci_sim_kind_info pci_sim_kinds[] = {
	[PCI_SIM_HOST_BRIDGE] = {
		.prefix	= "hb",
		.max	= U8_MAX,
		.type	= PCI_SIM_GROUP_TYPE(pci_sim_host_attrs, NULL),
	},
	[PCI_SIM_ROOT_PORT] = {
		.prefix	= "rp",
		.parents = BIT(PCI_SIM_HOST_BRIDGE),
		.max	= 31,
		.type	= PCI_SIM_GROUP_TYPE(pci_sim_root_port_attrs, NULL),
	},
	[PCI_SIM_UPSTREAM] = {
		.prefix	= "sw",
		.parents = BIT(PCI_SIM_ROOT_PORT) | BIT(PCI_SIM_DOWNSTREAM),
		.max	= 0,
		.type	= PCI_SIM_GROUP_TYPE(pci_sim_upstream_attrs, NULL),
	},
	[PCI_SIM_DOWNSTREAM] = {
		.prefix	= "dp",
		.parents = BIT(PCI_SIM_UPSTREAM),
		.max	= 31,
		.type	= PCI_SIM_GROUP_TYPE(pci_sim_downstream_attrs, NULL),
	},
	[PCI_SIM_ENDPOINT] = {
		.prefix	= "ep",
		.parents = BIT(PCI_SIM_ROOT_PORT) | BIT(PCI_SIM_DOWNSTREAM),
		.max	= 7,
		.type	= PCI_SIM_GROUP_TYPE(pci_sim_endpoint_attrs,
					     pci_sim_endpoint_bin_attrs),
	},
	[PCI_SIM_RCIEP] = {
		.prefix	= "rciep",
		.parents = BIT(PCI_SIM_HOST_BRIDGE),
		.max	= 31,
		.type	= PCI_SIM_LEAF_TYPE(pci_sim_endpoint_attrs,
					    pci_sim_endpoint_bin_attrs),
	},
	[PCI_SIM_COLLECTOR] = {
		.prefix	= "rcec",
		.parents = BIT(PCI_SIM_HOST_BRIDGE),
		.max	= 31,
		.type	= PCI_SIM_LEAF_TYPE(pci_sim_collector_attrs, NULL),
	},
	[PCI_SIM_VF] = {
		.prefix	= "vf",
		.parents = BIT(PCI_SIM_ENDPOINT),
		.max	= PCI_SIM_VFS_MAX - 1,
		.type	= PCI_SIM_LEAF_TYPE(pci_sim_vf_attrs,
					    pci_sim_endpoint_bin_attrs),
	},
};

static void pci_sim_node_defaults(struct pci_sim_node *node)
{
	/* One for TPH, and one for PASID */
	node->prefixes = 2;
	node->aer = node->kind != PCI_SIM_VF;

	switch (node->kind) {
	case PCI_SIM_ROOT_PORT:
		node->acs = 1;
		node->bus_reset = 1;
		node->vendor = PCI_SIM_VENDOR_ID;
		node->tph_completer = PCI_EXP_DEVCAP2_TPH_COMP_EXT_TPH;
		node->forward_hints = 1;
		break;
	case PCI_SIM_UPSTREAM:
		node->bus_reset = 1;
		break;
	case PCI_SIM_DOWNSTREAM:
		node->acs = 1;
		node->bus_reset = 1;
		break;
	case PCI_SIM_ENDPOINT:
	case PCI_SIM_RCIEP:
	case PCI_SIM_VF:
		node->tph = 1;
		node->tph_modes = PCI_TPH_CAP_ST_NS | PCI_TPH_CAP_ST_IV |
				  PCI_TPH_CAP_ST_DS;
		node->tph_loc = PCI_TPH_LOC_CAP >> __ffs(PCI_TPH_CAP_LOC_MASK);
		node->tph_st_size = 15;
		node->msix = 32;
		node->flr = 1;
		node->no_soft_reset = 1;
		break;
	case PCI_SIM_COLLECTOR:
		node->associated = U32_MAX;
		break;
	default:
		break;
	}
}

static int pci_sim_parse_name(const char *name, enum pci_sim_kind *kind,
			      u8 *number)
{
	const struct pci_sim_kind_info *info;
	size_t len;

	for (*kind = 0; *kind < PCI_SIM_NR_KINDS; (*kind)++) {
		info = &pci_sim_kinds[*kind];
		len = str_has_prefix(name, info->prefix);
		if (len && !kstrtou8(name + len, 10, number) &&
		    *number <= info->max)
			return 0;
	}

	return -EINVAL;
}

static struct config_group *pci_sim_make(struct pci_sim_fabric *fabric,
					 struct pci_sim_node *parent,
					 const char *name)
{
	struct list_head *list = parent ? &parent->children : &fabric->hosts;
	struct pci_sim_node *node, *other;
	unsigned int switches;
	enum pci_sim_kind kind;
	u8 number;
	int ret;

	ret = pci_sim_parse_name(name, &kind, &number);
	if (ret)
		return ERR_PTR(ret);

	if (parent ? !(pci_sim_kinds[kind].parents & BIT(parent->kind)) :
		     kind != PCI_SIM_HOST_BRIDGE)
		return ERR_PTR(-EINVAL);

	/* Requests and resets recurse into what is below a port */
	switches = (parent ? parent->switches : 0) + (kind == PCI_SIM_UPSTREAM);
	if (switches > PCI_SIM_SWITCHES_MAX)
		return ERR_PTR(-EINVAL);

	guard(mutex)(&fabric->lock);
	if (fabric->live)
		return ERR_PTR(-EBUSY);

	/* rp1 and rciep1, or hb1 and hb01, are the same place; a switch is alone */
	list_for_each_entry(other, list, siblings)
		if (other->number == number || kind == PCI_SIM_UPSTREAM ||
		    other->kind == PCI_SIM_UPSTREAM)
			return ERR_PTR(-EEXIST);

	node = kzalloc_obj(*node);
	if (!node)
		return ERR_PTR(-ENOMEM);

	node->fabric = fabric;
	node->kind = kind;
	node->number = number;
	node->switches = switches;
	INIT_LIST_HEAD(&node->children);
	pci_sim_node_defaults(node);
	config_group_init_type_name(&node->group, name,
				    &pci_sim_kinds[kind].type);
	list_add_tail(&node->siblings, list);
	return &node->group;
}

static struct config_group *pci_sim_node_make(struct config_group *group,
					      const char *name)
{
	struct pci_sim_node *parent = to_pci_sim_node(&group->cg_item);

	return pci_sim_make(parent->fabric, parent, name);
}

/*
 * Fabrics
 */

static struct configfs_subsystem pci_sim_subsys;

/* While the fabric is live no directory of it can be removed */
static void pci_sim_undepend(struct list_head *nodes, struct pci_sim_node *end)
{
	struct pci_sim_node *node;

	list_for_each_entry(node, nodes, siblings) {
		if (node == end)
			break;
		pci_sim_undepend(&node->children, NULL);
		configfs_undepend_item_unlocked(&node->group.cg_item);
	}
}

static int pci_sim_depend(struct list_head *nodes)
{
	struct pci_sim_node *node;
	int ret;

	list_for_each_entry(node, nodes, siblings) {
		ret = configfs_depend_item_unlocked(&pci_sim_subsys,
						    &node->group.cg_item);
		if (!ret) {
			ret = pci_sim_depend(&node->children);
			if (ret)
				configfs_undepend_item_unlocked(&node->group.cg_item);
		}
		if (ret) {
			pci_sim_undepend(nodes, node);
			return ret;
		}
	}

	return 0;
}

static ssize_t pci_sim_live_show(struct config_item *item, char *page)
{
	struct pci_sim_fabric *fabric = to_pci_sim_fabric(item);

	guard(mutex)(&fabric->lock);
	return sysfs_emit(page, "%d\n", fabric->live);
}

static void pci_sim_end(struct pci_sim_fabric *fabric)
{
	pci_sim_fabric_stop(fabric);

	guard(mutex)(&fabric->lock);
	pci_sim_undepend(&fabric->hosts, NULL);
	fabric->live = false;
}

static int pci_sim_begin(struct pci_sim_fabric *fabric)
{
	int ret;

	scoped_guard(mutex, &fabric->lock) {
		/* Fails if a directory is just being removed */
		ret = pci_sim_depend(&fabric->hosts);
		if (ret)
			return ret;

		/* The description stays as it is, also if this fails */
		fabric->live = true;
		ret = pci_sim_fabric_start(fabric);
	}
	if (ret)
		pci_sim_end(fabric);

	return ret;
}

static ssize_t pci_sim_live_store(struct config_item *item, const char *page,
				  size_t count)
{
	struct pci_sim_fabric *fabric = to_pci_sim_fabric(item);
	bool live;
	int ret;

	ret = kstrtobool(page, &live);
	if (ret)
		return ret;

	/* Who has it may be waiting for the users of the devices */
	ACQUIRE(mutex_intr, lock)(&fabric->live_lock);
	ret = ACQUIRE_ERR(mutex_intr, &lock);
	if (ret)
		return ret;

	if (live == fabric->live)
		return count;

	if (live)
		ret = pci_sim_begin(fabric);
	else
		pci_sim_end(fabric);

	return ret ?: count;
}
CONFIGFS_ATTR(pci_sim_, live);

static struct configfs_attribute *pci_sim_fabric_attrs[] = {
	&pci_sim_attr_live,
	NULL
};

static struct config_group *pci_sim_fabric_make_node(struct config_group *group,
						     const char *name)
{
	return pci_sim_make(to_pci_sim_fabric(&group->cg_item), NULL, name);
}

static struct configfs_group_operations pci_sim_fabric_group_ops = {
	.make_group	= pci_sim_fabric_make_node,
};

static void pci_sim_fabric_release(struct config_item *item)
{
	struct pci_sim_fabric *fabric = to_pci_sim_fabric(item);

	mutex_destroy(&fabric->lock);
	mutex_destroy(&fabric->live_lock);
	kfree(fabric);
}

static struct configfs_item_operations pci_sim_fabric_item_ops = {
	.release	= pci_sim_fabric_release,
};

static const struct config_item_type pci_sim_fabric_type = {
	.ct_item_ops	= &pci_sim_fabric_item_ops,
	.ct_group_ops	= &pci_sim_fabric_group_ops,
	.ct_attrs	= pci_sim_fabric_attrs,
	.ct_owner	= THIS_MODULE,
};

static struct config_group *pci_sim_fabric_make(struct config_group *group,
						const char *name)
{
	struct pci_sim_fabric *fabric = kzalloc_obj(*fabric);

	if (!fabric)
		return ERR_PTR(-ENOMEM);

	mutex_init(&fabric->live_lock);
	mutex_init(&fabric->lock);
	INIT_LIST_HEAD(&fabric->hosts);
	config_group_init_type_name(&fabric->group, name, &pci_sim_fabric_type);
	return &fabric->group;
}

static struct configfs_group_operations pci_sim_subsys_group_ops = {
	.make_group	= pci_sim_fabric_make,
};

static const struct config_item_type pci_sim_subsys_type = {
	.ct_group_ops	= &pci_sim_subsys_group_ops,
	.ct_owner	= THIS_MODULE,
};

static struct configfs_subsystem pci_sim_subsys = {
	.su_group = {
		.cg_item = {
			.ci_namebuf	= "pci-sim",
			.ci_type	= &pci_sim_subsys_type,
		},
	},
};

/**
 * pci_sim_configfs_init() - register with configfs
 *
 * Return: 0; an error of configfs_register_subsystem().
 */
int __init pci_sim_configfs_init(void)
{
	config_group_init(&pci_sim_subsys.su_group);
	mutex_init(&pci_sim_subsys.su_mutex);
	return configfs_register_subsystem(&pci_sim_subsys);
}

/**
 * pci_sim_configfs_exit() - unregister from configfs
 */
void pci_sim_configfs_exit(void)
{
	configfs_unregister_subsystem(&pci_sim_subsys);
	mutex_destroy(&pci_sim_subsys.su_mutex);
}
