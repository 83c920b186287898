// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests for TLP Processing Hints.
 *
 * The device under test is an array behind struct pci_ops, which records all
 * accesses and can be told to fail some, and RAM in place of an MSI-X Table.
 */
#include <kunit/static_stub.h>
#include <kunit/test.h>
#include <linux/bitfield.h>
#include <linux/irq.h>
#include <linux/irqdesc.h>
#include <linux/irqdomain.h>
#include <linux/msi.h>
#include <linux/pci.h>
#include <linux/pci-tph.h>
#include <linux/sched/task.h>
#include <linux/timekeeping.h>
#include <linux/unaligned.h>
#include <linux/workqueue.h>

#include "../pci.h"
#include "../msi/msi.h"

#define TPH_POS		0x140
#define EXP_POS		0x40
#define MSIX_POS	0x90
#define CTRL		(TPH_POS + PCI_TPH_CTRL)
#define ST(i)		(TPH_POS + PCI_TPH_BASE_SIZEOF + 2 * (i))

#define NS		PCI_TPH_CAP_ST_NS
#define ALL_MODES	(PCI_TPH_CAP_ST_NS | PCI_TPH_CAP_ST_IV | PCI_TPH_CAP_ST_DS)
#define EXT		PCI_TPH_CAP_EXT_TPH
#define IN_CAP		PCI_TPH_LOC_CAP
#define IN_MSIX		PCI_TPH_LOC_MSIX
#define ENTRIES(n)	FIELD_PREP_CONST(PCI_TPH_CAP_ST_MASK, (n) - 1)

#define MODE_NS		PCI_TPH_ST_NS_MODE
#define MODE_IV		PCI_TPH_ST_IV_MODE
#define MODE_DS		PCI_TPH_ST_DS_MODE
#define OFF		PCI_TPH_REQ_DISABLE
#define TPH		PCI_TPH_REQ_TPH_ONLY
#define EXT_TPH		PCI_TPH_REQ_EXT_TPH

#define TABLE_SIZE	8

/* From the Root Port down; without a switch there is the first one alone */
enum {
	ROOT_PORT,
	UPSTREAM,
	DOWNSTREAM,
	NR_PORTS,
	ENDPOINT = NR_PORTS,
	NR_COMPONENTS
};

struct tph_port {
	struct pci_dev	dev;
	struct pci_bus	bus;	/* below it */
	u8		cfg[PCI_CFG_SPACE_SIZE];
	bool		fails;
};

struct tph_access {
	bool	write;
	int	where;
	int	size;
	u32	val;
};

struct tph_ctx {
	struct pci_bus		root_bus;
	struct pci_bus		other_root_bus;
	struct tph_port		port[NR_PORTS];
	struct pci_dev		*pdev;
	u8			cfg[PCI_CFG_SPACE_EXP_SIZE];

	/* Accesses to the endpoint */
	struct tph_access	log[128];
	unsigned int		nr;
	unsigned int		nr_cap;		/* of them to the capability */
	unsigned int		toggles;	/* of TPH Requester Enable */

	/* Accesses to the components above */
	unsigned int		nr_above;

	/* Fail @fail_count accesses to the dword at @fail_where after @fail_skip */
	int			fail_where;
	bool			fail_write;
	bool			fail_late;	/* a write, after its effect */
	unsigned int		fail_skip;
	unsigned int		fail_count;

	/* MSI-X Table */
	u32			*table;
	unsigned int		*irqs;
	unsigned int		nr_vectors;
	unsigned int		vctrl_writes;
	unsigned int		flushes;
	unsigned int		maps;
	unsigned int		mapped;		/* entries, in the last one */
	unsigned int		unmaps;
	bool			registered;
};

static bool tph_access_fails(struct tph_ctx *ctx, bool write, int where)
{
	if (!ctx->fail_count || write != ctx->fail_write ||
	    round_down(where, 4) != ctx->fail_where)
		return false;

	if (ctx->fail_skip) {
		ctx->fail_skip--;
		return false;
	}

	ctx->fail_count--;

	return true;
}

static void tph_log(struct tph_ctx *ctx, bool write, int where, int size,
		    u32 val)
{
	if (ctx->nr < ARRAY_SIZE(ctx->log))
		ctx->log[ctx->nr] = (struct tph_access) {
			.write = write,
			.where = where,
			.size = size,
			.val = val,
		};
	ctx->nr++;
	ctx->nr_cap += ctx->pdev->tph_cap && where >= ctx->pdev->tph_cap;
}

static struct tph_port *tph_port_on(struct pci_bus *bus)
{
	struct tph_ctx *ctx = bus->sysdata;
	int i;

	for (i = 0; i < NR_PORTS; i++)
		if (ctx->port[i].dev.bus == bus)
			return &ctx->port[i];

	return NULL;
}

static int tph_fake_read(struct pci_bus *bus, unsigned int devfn, int where,
			 int size, u32 *val)
{
	struct tph_port *port = tph_port_on(bus);
	struct tph_ctx *ctx = bus->sysdata;
	u32 reg = 0;

	if (port) {
		ctx->nr_above++;
		if (port->fails) {
			/* As a port that does not respond, but without error */
			*val = GENMASK(size * 8 - 1, 0);
			return PCIBIOS_SUCCESSFUL;
		}
		memcpy(&reg, &port->cfg[where], size);
		*val = le32_to_cpu((__force __le32)reg);
		return PCIBIOS_SUCCESSFUL;
	}

	if (tph_access_fails(ctx, false, where))
		return PCIBIOS_SET_FAILED;

	memcpy(&reg, &ctx->cfg[where], size);
	*val = le32_to_cpu((__force __le32)reg);
	tph_log(ctx, false, where, size, *val);

	return PCIBIOS_SUCCESSFUL;
}

static bool tph_requests_enabled(struct tph_ctx *ctx)
{
	return get_unaligned_le32(&ctx->cfg[CTRL]) & PCI_TPH_CTRL_REQ_EN_MASK;
}

static int tph_fake_write(struct pci_bus *bus, unsigned int devfn, int where,
			  int size, u32 val)
{
	struct tph_ctx *ctx = bus->sysdata;
	u32 reg = (__force u32)cpu_to_le32(val);
	bool enabled = tph_requests_enabled(ctx);
	bool fails;

	if (tph_port_on(bus))
		return PCIBIOS_SET_FAILED;

	fails = tph_access_fails(ctx, true, where);
	if (fails && !ctx->fail_late)
		return PCIBIOS_SET_FAILED;

	memcpy(&ctx->cfg[where], &reg, size);
	ctx->toggles += tph_requests_enabled(ctx) != enabled;
	tph_log(ctx, true, where, size, val);

	return fails ? PCIBIOS_SET_FAILED : PCIBIOS_SUCCESSFUL;
}

static struct pci_ops tph_fake_ops = {
	.read	= tph_fake_read,
	.write	= tph_fake_write,
};

static u32 cfg_dword(struct tph_ctx *ctx, int where)
{
	return get_unaligned_le32(&ctx->cfg[where]);
}

static u16 cfg_st(struct tph_ctx *ctx, unsigned int index)
{
	return get_unaligned_le16(&ctx->cfg[ST(index)]);
}

static u8 *exp_reg(struct tph_ctx *ctx, int component, int reg)
{
	u8 *cfg = component == ENDPOINT ? ctx->cfg : ctx->port[component].cfg;

	return &cfg[EXP_POS + reg];
}

static void set_completer_of(struct tph_ctx *ctx, int component, u8 type)
{
	u8 *devcap2 = exp_reg(ctx, component, PCI_EXP_DEVCAP2);

	put_unaligned_le32((get_unaligned_le32(devcap2) &
			    ~PCI_EXP_DEVCAP2_TPH_COMP_MASK) |
			   FIELD_PREP(PCI_EXP_DEVCAP2_TPH_COMP_MASK, type),
			   devcap2);
}

static void set_completer(struct tph_ctx *ctx, u8 type)
{
	set_completer_of(ctx, ROOT_PORT, type);
}

/* End-End TLP Prefixes, at most 4 */
static void set_prefixes(struct tph_ctx *ctx, int component, unsigned int nr)
{
	u8 *devcap2 = exp_reg(ctx, component, PCI_EXP_DEVCAP2);

	put_unaligned_le32((get_unaligned_le32(devcap2) &
			    ~(PCI_EXP_DEVCAP2_EE_PREFIX |
			      PCI_EXP_DEVCAP2_EE_PREFIX_MAX)) |
			   (nr ? PCI_EXP_DEVCAP2_EE_PREFIX : 0) |
			   FIELD_PREP(PCI_EXP_DEVCAP2_EE_PREFIX_MAX, nr & 3),
			   devcap2);
}

static void set_blocking(struct tph_ctx *ctx, int component, bool blocking)
{
	put_unaligned_le16(blocking ? PCI_EXP_DEVCTL2_EE_PREFIX_BLOCK : 0,
			   exp_reg(ctx, component, PCI_EXP_DEVCTL2));
}

static void put_switch(struct tph_ctx *ctx)
{
	ctx->port[UPSTREAM].dev.bus = &ctx->port[ROOT_PORT].bus;
	ctx->port[DOWNSTREAM].dev.bus = &ctx->port[UPSTREAM].bus;
	ctx->pdev->bus = &ctx->port[DOWNSTREAM].bus;
}

static void clear_log(struct tph_ctx *ctx)
{
	ctx->nr = 0;
	ctx->nr_cap = 0;
	ctx->nr_above = 0;
	ctx->toggles = 0;
}

static void fail_write(struct tph_ctx *ctx, int where, unsigned int skip,
		       unsigned int count)
{
	ctx->fail_where = round_down(where, 4);
	ctx->fail_write = true;
	ctx->fail_skip = skip;
	ctx->fail_count = count;
}

/* Let the PCI core find a TPH capability at @pos */
static void probe_at(struct tph_ctx *ctx, int pos, u32 cap, int msix_entries)
{
	struct pci_dev *pdev = ctx->pdev;

	put_unaligned_le32(PCI_EXT_CAP_ID_VNDR | 1 << 16 | pos << 20,
			   &ctx->cfg[PCI_CFG_SPACE_SIZE]);
	put_unaligned_le32(PCI_EXT_CAP_ID_TPH | 1 << 16, &ctx->cfg[pos]);
	put_unaligned_le32(cap, &ctx->cfg[pos + PCI_TPH_CAP]);

	if (msix_entries) {
		pdev->msix_cap = MSIX_POS;
		put_unaligned_le16(msix_entries - 1,
				   &ctx->cfg[MSIX_POS + PCI_MSIX_FLAGS]);
	}

	pci_tph_init(pdev);
	clear_log(ctx);
}

static void probe(struct tph_ctx *ctx, u32 cap)
{
	probe_at(ctx, TPH_POS, cap, 0);
}

static void expect_access(struct kunit *test, unsigned int i, int where,
			  int size, u32 val)
{
	struct tph_ctx *ctx = test->priv;

	KUNIT_ASSERT_LT(test, i, ctx->nr);
	KUNIT_EXPECT_TRUE(test, ctx->log[i].write);
	KUNIT_EXPECT_EQ(test, ctx->log[i].where, where);
	KUNIT_EXPECT_EQ(test, ctx->log[i].size, size);
	KUNIT_EXPECT_EQ(test, ctx->log[i].val, val);
}

/* What the kernel says and what the hardware has */
static void expect_state(struct kunit *test, u8 mode, u8 req_type)
{
	struct tph_ctx *ctx = test->priv;

	KUNIT_EXPECT_EQ(test, pcie_tph_enabled_req_type(ctx->pdev), req_type);
	KUNIT_EXPECT_EQ(test, ctx->pdev->tph_mode, mode);
	KUNIT_EXPECT_EQ(test, cfg_dword(ctx, CTRL), mode | req_type << 8);
}

/* Location */

static void tph_location(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;

	KUNIT_EXPECT_EQ(test, pcie_tph_get_st_table_loc(ctx->pdev),
			PCI_TPH_LOC_NONE);
	probe(ctx, NS);
	KUNIT_EXPECT_EQ(test, pcie_tph_get_st_table_loc(ctx->pdev),
			PCI_TPH_LOC_NONE);
	probe(ctx, NS | IN_CAP);
	KUNIT_EXPECT_EQ(test, pcie_tph_get_st_table_loc(ctx->pdev),
			PCI_TPH_LOC_CAP);
	KUNIT_EXPECT_EQ(test, ctx->nr, 0);
}

static void tph_location_msix(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;

	probe_at(ctx, TPH_POS, NS | IN_MSIX, 1);
	KUNIT_EXPECT_EQ(test, pcie_tph_get_st_table_loc(ctx->pdev),
			PCI_TPH_LOC_MSIX);
	KUNIT_EXPECT_EQ(test, ctx->nr, 0);
}

static void tph_location_reserved(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;

	probe_at(ctx, TPH_POS, NS | PCI_TPH_CAP_LOC_MASK, 1);
	KUNIT_EXPECT_EQ(test, pcie_tph_get_st_table_loc(ctx->pdev),
			PCI_TPH_LOC_NONE);
}

/* Size, and capabilities that are refused */

struct tph_probe_param {
	const char	*desc;
	u32		cap;
	int		pos;
	int		msix;
	bool		good;
	u16		size;
};

static const struct tph_probe_param tph_probe_params[] = {
	{ "no table", NS | ENTRIES(8), TPH_POS, 8, true, 0 },
	{ "1 entry", NS | IN_CAP | ENTRIES(1), TPH_POS, 0, true, 1 },
	{ "64 entries", NS | IN_CAP | ENTRIES(64), TPH_POS, 0, true, 64 },
	{ "65 entries", NS | IN_CAP | ENTRIES(65), TPH_POS, 0 },
	{ "2048 entries", NS | IN_CAP | ENTRIES(2048), TPH_POS, 0 },
	{ "up to end", NS | IN_CAP | ENTRIES(26), 0xfc0, 0, true, 26 },
	{ "past end", NS | IN_CAP | ENTRIES(27), 0xfc0, 0 },
	{ "no room for registers", NS, 0xff8, 0 },
	{ "fewer than vectors", NS | IN_MSIX | ENTRIES(4), TPH_POS, 8, true, 4 },
	{ "more than vectors", NS | IN_MSIX | ENTRIES(2048), TPH_POS, 8, true, 8 },
	{ "2048 vectors", NS | IN_MSIX | ENTRIES(2048), TPH_POS, 2048, true, 2048 },
	{ "no MSI-X", NS | IN_MSIX | ENTRIES(4), TPH_POS, 0 },
	{ "reserved location", NS | PCI_TPH_CAP_LOC_MASK, TPH_POS, 8 },
	{ "without No ST mode", PCI_TPH_CAP_ST_IV | IN_CAP | ENTRIES(4), TPH_POS, 0 },
	{ "all ones", ~0, TPH_POS, 8 },
};

KUNIT_ARRAY_PARAM_DESC(tph_probe, tph_probe_params, desc);

static void tph_probe(struct kunit *test)
{
	const struct tph_probe_param *p = test->param_value;
	struct tph_ctx *ctx = test->priv;

	probe_at(ctx, p->pos, p->cap, p->msix);

	KUNIT_EXPECT_EQ(test, ctx->pdev->tph_cap, p->good ? p->pos : 0);
	KUNIT_EXPECT_EQ(test, pcie_tph_get_st_table_size(ctx->pdev), p->size);
	KUNIT_EXPECT_EQ(test, pcie_tph_st_modes(ctx->pdev), p->good ? NS : 0);
	KUNIT_EXPECT_EQ(test, pcie_tph_max_req_type(ctx->pdev),
			p->good ? TPH : OFF);

	/* A restore must not touch what is not there */
	pci_restore_tph_state(ctx->pdev);
	if (!p->good)
		KUNIT_EXPECT_EQ(test, ctx->nr, 0);
}

/* Types of requests */

struct tph_type_param {
	const char	*desc;
	u32		ext;
	u8		completer;
	u8		max;
};

static const struct tph_type_param tph_type_params[] = {
	{ "TPH to none", 0, 0, OFF },
	{ "TPH to TPH", 0, 1, TPH },
	{ "TPH to reserved", 0, 2, OFF },
	{ "TPH to Extended TPH", 0, 3, TPH },
	{ "Extended TPH to none", EXT, 0, OFF },
	{ "Extended TPH to TPH", EXT, 1, TPH },
	{ "Extended TPH to reserved", EXT, 2, OFF },
	{ "Extended TPH to Extended TPH", EXT, 3, EXT_TPH },
};

KUNIT_ARRAY_PARAM_DESC(tph_type, tph_type_params, desc);

static void tph_type(struct kunit *test)
{
	const struct tph_type_param *p = test->param_value;
	struct tph_ctx *ctx = test->priv;

	set_completer(ctx, p->completer);
	probe(ctx, ALL_MODES | p->ext);

	KUNIT_EXPECT_EQ(test, pcie_tph_max_req_type(ctx->pdev), p->max);
	KUNIT_EXPECT_EQ(test, pcie_enable_tph(ctx->pdev, MODE_DS),
			p->max ? 0 : -EINVAL);
	expect_state(test, p->max ? MODE_DS : MODE_NS, p->max);
}

static void tph_type_rciep(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;

	/* No port above it, and not to be taken for the Root Port's bus */
	ctx->pdev->pcie_flags_reg = 2 | PCI_EXP_TYPE_RC_END << 4;
	ctx->pdev->bus = &ctx->other_root_bus;
	set_prefixes(ctx, ENDPOINT, 0);
	probe(ctx, ALL_MODES | EXT);

	KUNIT_EXPECT_EQ(test, pcie_tph_max_req_type(ctx->pdev), EXT_TPH);
	KUNIT_EXPECT_EQ(test, pcie_tph_path(ctx->pdev, NULL), EXT_TPH);
}

static void tph_type_no_response(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;
	struct pcie_tph_limit limit;

	ctx->port[ROOT_PORT].fails = true;
	probe(ctx, ALL_MODES | EXT);

	KUNIT_EXPECT_EQ(test, pcie_tph_max_req_type(ctx->pdev), OFF);
	KUNIT_EXPECT_EQ(test, pcie_enable_tph(ctx->pdev, MODE_DS), -EINVAL);
	expect_state(test, MODE_NS, OFF);

	/* If it does respond later that is not asked again, but people are told */
	ctx->port[ROOT_PORT].fails = false;
	KUNIT_EXPECT_EQ(test, pcie_tph_path(ctx->pdev, &limit), OFF);
	KUNIT_EXPECT_PTR_EQ(test, limit.pdev, ctx->pdev);
	KUNIT_EXPECT_NOT_NULL(test, limit.reason);
}

/* Whether the device takes hints is another matter than that of its port. */
static void tph_completer(struct kunit *test)
{
	static const u8 types[] = { OFF, TPH, OFF, EXT_TPH };
	struct tph_ctx *ctx = test->priv;
	int i;

	set_completer(ctx, 3);
	for (i = 0; i < ARRAY_SIZE(types); i++) {
		set_completer_of(ctx, ENDPOINT, i);
		KUNIT_EXPECT_EQ(test, pcie_tph_completer_type(ctx->pdev),
				types[i]);
	}

	/* Nor does it take a requester, or a port. */
	ctx->port[ROOT_PORT].fails = true;
	KUNIT_EXPECT_EQ(test, pcie_tph_max_req_type(ctx->pdev), OFF);
	KUNIT_EXPECT_EQ(test, pcie_tph_completer_type(ctx->pdev), EXT_TPH);

	ctx->fail_where = EXP_POS + PCI_EXP_DEVCAP2;
	ctx->fail_write = false;
	ctx->fail_count = 1;
	KUNIT_EXPECT_EQ(test, pcie_tph_completer_type(ctx->pdev), OFF);
}

/* The way to the Root Port, with a switch on it */

#define LINK(port)	BIT(port)	/* the link below a port */

struct tph_path_param {
	const char	*desc;
	u8		completer;
	s8		prefixes[NR_COMPONENTS];	/* -1: none, 0: as many as can be */
	u8		flit;				/* links */
	bool		pasid;
	u8		max;
	u8		limit;
};

static const struct tph_path_param tph_path_params[] = {
	{ "all", 3, {}, .max = EXT_TPH },
	{ "no completer", 0, {}, .max = OFF, .limit = ROOT_PORT },
	{ "TPH completer", 1, {}, .max = TPH, .limit = ROOT_PORT },
	{ "Root Port without prefix", 3, { [ROOT_PORT] = -1 },
	  .max = TPH, .limit = ROOT_PORT },
	{ "Upstream Port without prefix", 3, { [UPSTREAM] = -1 },
	  .max = TPH, .limit = UPSTREAM },
	{ "Downstream Port without prefix", 3, { [DOWNSTREAM] = -1 },
	  .max = TPH, .limit = DOWNSTREAM },
	{ "endpoint without prefix", 3, { [ENDPOINT] = -1 },
	  .max = TPH, .limit = ENDPOINT },
	{ "one prefix", 3, { 1, 1, 1, 1 }, .max = EXT_TPH },
	{ "one prefix, and PASID", 3, { [UPSTREAM] = 1 }, .pasid = true,
	  .max = TPH, .limit = UPSTREAM },
	{ "two prefixes, and PASID", 3, { 2, 2, 2, 2 }, .pasid = true,
	  .max = EXT_TPH },
	{ "four prefixes, and PASID", 3, {}, .pasid = true, .max = EXT_TPH },
	{ "Flit Mode without prefixes", 3, { -1, -1, -1, -1 },
	  .flit = LINK(ROOT_PORT) | LINK(DOWNSTREAM), .max = EXT_TPH },
	{ "Flit Mode below the switch", 3, { [ENDPOINT] = -1, [DOWNSTREAM] = -1 },
	  .flit = LINK(DOWNSTREAM), .max = EXT_TPH },
	{ "Flit Mode above the switch", 3, { [ROOT_PORT] = -1, [UPSTREAM] = 1 },
	  .flit = LINK(ROOT_PORT), .max = EXT_TPH },
	{ "Flit Mode of another link", 3, { [ENDPOINT] = -1 },
	  .flit = LINK(ROOT_PORT), .max = TPH, .limit = ENDPOINT },
};

KUNIT_ARRAY_PARAM_DESC(tph_path, tph_path_params, desc);

static struct pci_dev *component(struct tph_ctx *ctx, int i)
{
	return i == ENDPOINT ? ctx->pdev : &ctx->port[i].dev;
}

static void tph_path(struct kunit *test)
{
	const struct tph_path_param *p = test->param_value;
	struct tph_ctx *ctx = test->priv;
	struct pcie_tph_limit limit;
	int i;

	put_switch(ctx);
	set_completer(ctx, p->completer);
	for (i = 0; i < NR_COMPONENTS; i++)
		if (p->prefixes[i])
			set_prefixes(ctx, i, max(p->prefixes[i], 0));
	for (i = 0; i < NR_PORTS; i++)
		ctx->port[i].bus.flit_mode = !!(p->flit & LINK(i));
#ifdef CONFIG_PCI_PASID
	ctx->pdev->pasid_cap = p->pasid ? 0x300 : 0;
#else
	if (p->pasid)
		kunit_skip(test, "needs CONFIG_PCI_PASID");
#endif
	probe(ctx, ALL_MODES | EXT);

	KUNIT_EXPECT_EQ(test, pcie_tph_max_req_type(ctx->pdev), p->max);
	KUNIT_EXPECT_EQ(test, ctx->nr, 0);
	KUNIT_EXPECT_EQ(test, pcie_tph_path(ctx->pdev, NULL), p->max);

	KUNIT_EXPECT_EQ(test, pcie_tph_path(ctx->pdev, &limit), p->max);
	if (p->max == EXT_TPH) {
		KUNIT_EXPECT_NULL(test, limit.pdev);
		KUNIT_EXPECT_NULL(test, limit.reason);
	} else {
		KUNIT_EXPECT_PTR_EQ(test, limit.pdev, component(ctx, p->limit));
		KUNIT_EXPECT_NOT_NULL(test, limit.reason);
	}

	KUNIT_EXPECT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, MODE_DS, EXT_TPH),
			p->max == EXT_TPH ? 0 : -EOPNOTSUPP);
}

/* A link comes up again without the Flit Mode that carried 16-bit tags */
static void tph_path_left_flit(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;
	struct pci_dev *pdev = ctx->pdev;
	struct pcie_tph_limit limit;

	put_switch(ctx);
	set_completer(ctx, 3);
	set_prefixes(ctx, ENDPOINT, 0);
	ctx->port[DOWNSTREAM].bus.flit_mode = true;
	probe(ctx, ALL_MODES | EXT);
	KUNIT_EXPECT_EQ(test, pcie_tph_path(pdev, NULL), EXT_TPH);

	ctx->port[DOWNSTREAM].bus.flit_mode = false;
	KUNIT_EXPECT_EQ(test, pcie_tph_max_req_type(pdev), EXT_TPH);
	KUNIT_EXPECT_EQ(test, pcie_tph_path(pdev, &limit), TPH);
	KUNIT_EXPECT_PTR_EQ(test, limit.pdev, pdev);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_ctrl(pdev, MODE_DS, EXT_TPH),
			-EOPNOTSUPP);
	expect_state(test, MODE_NS, OFF);
	KUNIT_EXPECT_EQ(test, pcie_enable_tph(pdev, MODE_DS), 0);
	expect_state(test, MODE_DS, TPH);
}

static void tph_path_blocked(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;
	struct pci_dev *pdev = ctx->pdev;
	struct pcie_tph_limit limit;

	put_switch(ctx);
	set_completer(ctx, 3);
	probe(ctx, ALL_MODES | EXT);

	/* What blocks the way down is not on the way up */
	set_blocking(ctx, ROOT_PORT, true);
	set_blocking(ctx, DOWNSTREAM, true);
	KUNIT_EXPECT_EQ(test, pcie_tph_path(pdev, &limit), EXT_TPH);

	set_blocking(ctx, UPSTREAM, true);
	KUNIT_EXPECT_EQ(test, pcie_tph_max_req_type(pdev), EXT_TPH);
	KUNIT_EXPECT_EQ(test, pcie_tph_path(pdev, &limit), TPH);
	KUNIT_EXPECT_PTR_EQ(test, limit.pdev, component(ctx, UPSTREAM));
	KUNIT_EXPECT_EQ(test, pcie_tph_set_ctrl(pdev, MODE_DS, EXT_TPH),
			-EOPNOTSUPP);
	expect_state(test, MODE_NS, OFF);
	KUNIT_EXPECT_EQ(test, pcie_enable_tph(pdev, MODE_DS), 0);
	expect_state(test, MODE_DS, TPH);

	/* Prefixes do not matter to a link that needs none */
	ctx->port[ROOT_PORT].bus.flit_mode = 1;
	KUNIT_EXPECT_EQ(test, pcie_tph_set_ctrl(pdev, MODE_DS, EXT_TPH), 0);
	expect_state(test, MODE_DS, EXT_TPH);
	ctx->port[ROOT_PORT].bus.flit_mode = 0;

	/* An enabled type is not taken back by a change of the mode */
	KUNIT_EXPECT_EQ(test, pcie_tph_set_ctrl(pdev, MODE_NS, EXT_TPH), 0);
	expect_state(test, MODE_NS, EXT_TPH);

	ctx->port[UPSTREAM].fails = true;
	set_blocking(ctx, UPSTREAM, false);
	KUNIT_EXPECT_EQ(test, pcie_tph_path(pdev, &limit), TPH);
	ctx->port[UPSTREAM].fails = false;
	KUNIT_EXPECT_EQ(test, pcie_tph_path(pdev, &limit), EXT_TPH);
}

/* Requester Enable behind an ST write is the type, not the mode */

static void tph_type_after_st_write(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;

	probe(ctx, ALL_MODES | IN_CAP | ENTRIES(4));
	KUNIT_ASSERT_EQ(test, pcie_enable_tph(ctx->pdev, MODE_DS), 0);
	expect_state(test, MODE_DS, TPH);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entry(ctx->pdev, 1, 0x41), 0);
	expect_state(test, MODE_DS, TPH);
	KUNIT_EXPECT_EQ(test, cfg_st(ctx, 1), 0x41);
}

static void tph_ext_type_after_st_write(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;

	set_completer(ctx, 3);
	probe(ctx, ALL_MODES | EXT | IN_CAP | ENTRIES(4));
	KUNIT_ASSERT_EQ(test, pcie_enable_tph(ctx->pdev, MODE_IV), 0);
	expect_state(test, MODE_IV, EXT_TPH);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entry(ctx->pdev, 2, 0x1234), 0);
	expect_state(test, MODE_IV, EXT_TPH);
	KUNIT_EXPECT_EQ(test, cfg_st(ctx, 2), 0x1234);
}

/* Failures to enable */

static void tph_enable_fails(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;

	probe(ctx, ALL_MODES | IN_CAP | ENTRIES(4));

	fail_write(ctx, CTRL, 0, 1);
	KUNIT_EXPECT_EQ(test, pcie_enable_tph(ctx->pdev, MODE_IV), -EIO);
	expect_state(test, MODE_NS, OFF);

	/* The write that enables */
	fail_write(ctx, CTRL, 1, 1);
	KUNIT_EXPECT_EQ(test, pcie_enable_tph(ctx->pdev, MODE_IV), -EIO);
	expect_state(test, MODE_NS, OFF);

	/* None of that is in the way later */
	KUNIT_EXPECT_EQ(test, pcie_enable_tph(ctx->pdev, MODE_IV), 0);
	expect_state(test, MODE_IV, TPH);
	KUNIT_EXPECT_EQ(test, pcie_enable_tph(ctx->pdev, MODE_DS), -EBUSY);
	expect_state(test, MODE_IV, TPH);
}

static void tph_enable_bad_mode(struct kunit *test)
{
	static const int modes[] = { -1, 2, 3, 7, 8, 9, 10, 256, 257, INT_MAX, INT_MIN };
	struct tph_ctx *ctx = test->priv;
	int i;

	probe(ctx, NS | PCI_TPH_CAP_ST_IV);
	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		KUNIT_EXPECT_EQ(test, pcie_enable_tph(ctx->pdev, modes[i]),
				-EINVAL);
		expect_state(test, MODE_NS, OFF);
	}
	KUNIT_EXPECT_EQ(test, ctx->nr, 0);
}

/* The control register */

static void tph_set_ctrl_steps(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;

	set_completer(ctx, 3);
	probe(ctx, ALL_MODES | EXT);

	/* Nothing to do */
	KUNIT_EXPECT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, MODE_NS, OFF), 0);
	KUNIT_EXPECT_EQ(test, ctx->nr, 0);

	/* Change, enable */
	KUNIT_EXPECT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, MODE_IV, TPH), 0);
	KUNIT_EXPECT_EQ(test, ctx->nr, 2);
	expect_access(test, 0, CTRL, 4, MODE_IV);
	expect_access(test, 1, CTRL, 4, MODE_IV | TPH << 8);
	expect_state(test, MODE_IV, TPH);

	clear_log(ctx);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, MODE_IV, TPH), 0);
	KUNIT_EXPECT_EQ(test, ctx->nr, 0);

	/* Disable, change, enable, after a look at the link */
	KUNIT_EXPECT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, MODE_DS, EXT_TPH), 0);
	KUNIT_EXPECT_EQ(test, ctx->nr, 4);
	expect_access(test, 1, CTRL, 4, MODE_IV);
	expect_access(test, 2, CTRL, 4, MODE_DS);
	expect_access(test, 3, CTRL, 4, MODE_DS | EXT_TPH << 8);
	expect_state(test, MODE_DS, EXT_TPH);

	/* Disable with the mode selected */
	clear_log(ctx);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, MODE_DS, OFF), 0);
	KUNIT_EXPECT_EQ(test, ctx->nr, 1);
	expect_state(test, MODE_DS, OFF);

	pcie_disable_tph(ctx->pdev);
	expect_state(test, MODE_DS, OFF);
}

static void tph_set_ctrl_invalid(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;

	KUNIT_EXPECT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, MODE_NS, OFF),
			-EOPNOTSUPP);

	probe(ctx, NS | PCI_TPH_CAP_ST_DS);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, MODE_IV, TPH), -EINVAL);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, 3, TPH), -EINVAL);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, 8, TPH), -EINVAL);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, 255, TPH), -EINVAL);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, MODE_DS, 2), -EINVAL);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, MODE_DS, 4), -EINVAL);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, MODE_DS, EXT_TPH),
			-EINVAL);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, MODE_DS, OFF), 0);
	expect_state(test, MODE_DS, OFF);
}

static void tph_set_ctrl_no_completer(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;

	set_completer(ctx, 0);
	probe(ctx, NS | PCI_TPH_CAP_ST_DS);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, MODE_DS, TPH),
			-EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, MODE_DS, OFF), 0);
	expect_state(test, MODE_DS, OFF);
}

static void tph_set_ctrl_fails(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;
	int skip;

	probe(ctx, ALL_MODES);

	for (skip = 0; skip < 3; skip++) {
		KUNIT_ASSERT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, MODE_IV, TPH), 0);
		fail_write(ctx, CTRL, skip, 1);
		KUNIT_EXPECT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, MODE_DS, TPH),
				-EIO);
		expect_state(test, MODE_NS, OFF);
	}
}

/* What firmware has left on is found and turned off */
static void tph_firmware_left_on(struct kunit *test)
{
	static const u16 zero[4];
	struct tph_ctx *ctx = test->priv;

	put_unaligned_le32(MODE_IV | TPH << 8, &ctx->cfg[CTRL]);
	put_unaligned_le16(0x77, &ctx->cfg[ST(3)]);
	probe(ctx, ALL_MODES | IN_CAP | ENTRIES(4));

	KUNIT_EXPECT_EQ(test, pcie_tph_enabled_req_type(ctx->pdev), OFF);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, MODE_NS, OFF), 0);
	expect_state(test, MODE_NS, OFF);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entries(ctx->pdev, 0, 3, zero), 3);
	KUNIT_EXPECT_EQ(test, cfg_st(ctx, 3), 0x77);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entries(ctx->pdev, 3, 1, zero), 1);
	KUNIT_EXPECT_EQ(test, cfg_st(ctx, 3), 0);
}

/* Entries outside of the table */

static void tph_index_out_of_range(struct kunit *test)
{
	static const unsigned int bad[] = { 4, 5, 64, 0x7fffffff, 0x80000000, 0x80000001, ~0 };
	struct tph_ctx *ctx = test->priv;
	static const u16 tags[5];
	int i;

	probe(ctx, ALL_MODES | IN_CAP | ENTRIES(4));
	KUNIT_ASSERT_EQ(test, pcie_enable_tph(ctx->pdev, MODE_DS), 0);
	KUNIT_ASSERT_EQ(test, pcie_tph_set_st_entry(ctx->pdev, 0, 0x11), 0);
	KUNIT_ASSERT_EQ(test, pcie_tph_set_st_entry(ctx->pdev, 3, 0x33), 0);

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		clear_log(ctx);
		KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entry(ctx->pdev, bad[i], 0xff),
				-ENXIO);
		KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entries(ctx->pdev, bad[i], 1,
							      tags), -EINVAL);
		KUNIT_EXPECT_EQ(test, ctx->nr, 0);
		KUNIT_EXPECT_EQ(test, cfg_st(ctx, 0), 0x11);
		KUNIT_EXPECT_EQ(test, cfg_st(ctx, 3), 0x33);
		expect_state(test, MODE_DS, TPH);
	}

	clear_log(ctx);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entries(ctx->pdev, 0, 5, tags), -EINVAL);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entries(ctx->pdev, 3, 2, tags), -EINVAL);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entries(ctx->pdev, 0, 0, tags), -EINVAL);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entries(ctx->pdev, 1, ~0, tags), -EINVAL);
	KUNIT_EXPECT_EQ(test, ctx->nr, 0);
}

static void tph_no_table(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;
	u16 tag = 1;

	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entries(ctx->pdev, 0, 1, &tag),
			-EINVAL);
	probe(ctx, ALL_MODES);
	KUNIT_ASSERT_EQ(test, pcie_enable_tph(ctx->pdev, MODE_DS), 0);
	clear_log(ctx);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entries(ctx->pdev, 0, 1, &tag),
			-EINVAL);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entry(ctx->pdev, 0, 1), -EINVAL);
	KUNIT_EXPECT_EQ(test, ctx->nr, 0);
}

/* Failing accesses to the table */

static void tph_st_write_fails(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;

	probe(ctx, ALL_MODES | IN_CAP | ENTRIES(4));
	KUNIT_ASSERT_EQ(test, pcie_enable_tph(ctx->pdev, MODE_DS), 0);
	KUNIT_ASSERT_EQ(test, pcie_tph_set_st_entry(ctx->pdev, 0, 0x11), 0);

	fail_write(ctx, ST(2), 0, 1);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entry(ctx->pdev, 2, 0x22), -EIO);
	KUNIT_EXPECT_EQ(test, cfg_st(ctx, 0), 0x11);
	KUNIT_EXPECT_EQ(test, cfg_st(ctx, 2), 0);
	expect_state(test, MODE_DS, TPH);

	/* The tag that failed does not come with its neighbour */
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entry(ctx->pdev, 3, 0x33), 0);
	KUNIT_EXPECT_EQ(test, cfg_st(ctx, 2), 0);
	KUNIT_EXPECT_EQ(test, cfg_st(ctx, 3), 0x33);
}

static void tph_batch_fails(struct kunit *test)
{
	static const u16 tags[] = { 1, 2, 3, 4, 5 };
	struct tph_ctx *ctx = test->priv;
	int i;

	probe(ctx, ALL_MODES | IN_CAP | ENTRIES(6));
	KUNIT_ASSERT_EQ(test, pcie_enable_tph(ctx->pdev, MODE_DS), 0);

	/* Entries 1 | 2 3 | 4 5, of which the last dword fails */
	fail_write(ctx, ST(4), 0, 1);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entries(ctx->pdev, 1, 5, tags), 3);
	for (i = 0; i < 6; i++)
		KUNIT_EXPECT_EQ(test, cfg_st(ctx, i), i < 4 ? i : 0);
	expect_state(test, MODE_DS, TPH);

	fail_write(ctx, ST(0), 0, 1);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entries(ctx->pdev, 1, 5, tags), -EIO);
	KUNIT_EXPECT_EQ(test, cfg_st(ctx, 4), 0);
	expect_state(test, MODE_DS, TPH);
}

static void tph_window_fails(struct kunit *test)
{
	static const u16 tags[] = { 1, 2, 3, 4 };
	struct tph_ctx *ctx = test->priv;

	probe(ctx, ALL_MODES | IN_CAP | ENTRIES(4));
	KUNIT_ASSERT_EQ(test, pcie_enable_tph(ctx->pdev, MODE_DS), 0);

	/* Not cleared: nothing done */
	fail_write(ctx, CTRL, 0, 1);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entries(ctx->pdev, 0, 4, tags), -EIO);
	KUNIT_EXPECT_EQ(test, cfg_st(ctx, 0), 0);
	expect_state(test, MODE_DS, TPH);

	/* Not set again: off */
	fail_write(ctx, CTRL, 1, 1);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entries(ctx->pdev, 0, 4, tags), -EIO);
	expect_state(test, MODE_DS, OFF);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, MODE_DS, TPH), 0);
	expect_state(test, MODE_DS, TPH);
}

/* Number and order of accesses */

static void tph_batch_accesses(struct kunit *test)
{
	static const u16 tags[] = { 1, 2, 3, 4, 5, 6, 7 };
	struct tph_ctx *ctx = test->priv;
	unsigned int start, count, dwords, i;

	probe(ctx, ALL_MODES | IN_CAP | ENTRIES(7));
	put_unaligned_le16(0xdead, &ctx->cfg[ST(7)]);
	KUNIT_ASSERT_EQ(test, pcie_enable_tph(ctx->pdev, MODE_DS), 0);

	for (start = 0; start < 7; start++) {
		for (count = 1; count <= 7 - start; count++) {
			dwords = (start + count - 1) / 2 - start / 2 + 1;

			clear_log(ctx);
			KUNIT_EXPECT_EQ(test,
					pcie_tph_set_st_entries(ctx->pdev, start,
								count, tags),
					count);
			KUNIT_EXPECT_EQ(test, ctx->nr, dwords + 2);
			expect_access(test, 0, CTRL, 4, MODE_DS);
			for (i = 1; i <= dwords; i++) {
				KUNIT_EXPECT_TRUE(test, ctx->log[i].write);
				KUNIT_EXPECT_EQ(test, ctx->log[i].where,
						ST(round_down(start, 2) + 2 * (i - 1)));
			}
			expect_access(test, dwords + 1, CTRL, 4,
				      MODE_DS | TPH << 8);
			for (i = 0; i < count; i++)
				KUNIT_EXPECT_EQ(test, cfg_st(ctx, start + i),
						tags[i]);
		}
	}

	/* Behind the last entry of an odd table */
	KUNIT_EXPECT_EQ(test, cfg_st(ctx, 7), 0xdead);
}

static void tph_batch_accesses_off(struct kunit *test)
{
	static const u16 tags[] = { 1, 2, 3, 4 };
	struct tph_ctx *ctx = test->priv;

	probe(ctx, ALL_MODES | IN_CAP | ENTRIES(8));

	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entries(ctx->pdev, 2, 4, tags), 4);
	KUNIT_EXPECT_EQ(test, ctx->nr, 2);
	expect_access(test, 0, ST(2), 4, 0x00020001);
	expect_access(test, 1, ST(4), 4, 0x00040003);

	/* The other half of the dword is known */
	clear_log(ctx);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entries(ctx->pdev, 3, 1, &tags[3]), 1);
	KUNIT_EXPECT_EQ(test, ctx->nr, 1);
	expect_access(test, 0, ST(2), 4, 0x00040001);
}

static void tph_pause_accesses(struct kunit *test)
{
	static const u16 tags[] = { 1, 2, 3, 4 };
	struct tph_ctx *ctx = test->priv;

	probe(ctx, ALL_MODES | IN_CAP | ENTRIES(4));

	/* Off: nothing to pause */
	KUNIT_EXPECT_EQ(test, pcie_tph_pause(ctx->pdev), 0);
	KUNIT_EXPECT_EQ(test, pcie_tph_resume(ctx->pdev), 0);
	KUNIT_EXPECT_EQ(test, ctx->nr, 0);

	KUNIT_ASSERT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, MODE_DS, TPH), 0);
	clear_log(ctx);
	KUNIT_EXPECT_EQ(test, pcie_tph_pause(ctx->pdev), 0);
	KUNIT_EXPECT_EQ(test, pcie_tph_enabled_req_type(ctx->pdev), TPH);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entries(ctx->pdev, 0, 2, tags), 2);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entries(ctx->pdev, 2, 2, tags), 2);
	KUNIT_EXPECT_EQ(test, cfg_dword(ctx, CTRL), MODE_DS);
	KUNIT_EXPECT_EQ(test, pcie_tph_resume(ctx->pdev), 0);
	KUNIT_EXPECT_EQ(test, ctx->nr, 4);
	expect_access(test, 0, CTRL, 4, MODE_DS);
	expect_access(test, 3, CTRL, 4, MODE_DS | TPH << 8);
	expect_state(test, MODE_DS, TPH);

	/* The last word on the control register comes into effect on resume */
	KUNIT_EXPECT_EQ(test, pcie_tph_pause(ctx->pdev), 0);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, MODE_IV, TPH), 0);
	KUNIT_EXPECT_EQ(test, cfg_dword(ctx, CTRL), MODE_IV);
	KUNIT_EXPECT_EQ(test, pcie_tph_resume(ctx->pdev), 0);
	expect_state(test, MODE_IV, TPH);

	KUNIT_EXPECT_EQ(test, pcie_tph_pause(ctx->pdev), 0);
	fail_write(ctx, CTRL, 0, 1);
	KUNIT_EXPECT_EQ(test, pcie_tph_resume(ctx->pdev), -EIO);
	expect_state(test, MODE_IV, OFF);
}

/* Restore */

/* As a reset does */
static void wipe(struct tph_ctx *ctx)
{
	memset(&ctx->cfg[CTRL], 0, 4);
	memset(&ctx->cfg[ST(0)], 0, 2 * pcie_tph_get_st_table_size(ctx->pdev));
	clear_log(ctx);
}

/* As pci_restore_state() does it */
static void restore(struct tph_ctx *ctx)
{
	pci_tph_prepare_restore(ctx->pdev);
	pci_restore_tph_state(ctx->pdev);
}

/* Tags in the 4 entries of the table in the capability, and TPH on or off */
static void set_tags(struct kunit *test, u8 req_type)
{
	static const u16 tags[] = { 1, 2, 3, 4 };
	struct tph_ctx *ctx = test->priv;

	KUNIT_ASSERT_EQ(test, pcie_tph_set_st_entries(ctx->pdev, 0, 4, tags), 4);
	KUNIT_ASSERT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, MODE_DS, req_type), 0);
}

static void program_cap(struct kunit *test, u8 req_type)
{
	probe(test->priv, ALL_MODES | IN_CAP | ENTRIES(4));
	set_tags(test, req_type);
}

static void expect_no_tags(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;
	int i;

	for (i = 0; i < 4; i++)
		KUNIT_EXPECT_EQ(test, cfg_st(ctx, i), 0);
}

static void tph_restore_on(struct kunit *test)
{
	static const u16 tags[] = { 1, 2, 3 };
	struct tph_ctx *ctx = test->priv;

	probe(ctx, ALL_MODES | IN_CAP | ENTRIES(3));
	KUNIT_ASSERT_EQ(test, pcie_tph_set_st_entries(ctx->pdev, 0, 3, tags), 3);
	KUNIT_ASSERT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, MODE_DS, TPH), 0);

	wipe(ctx);
	put_unaligned_le16(0xdead, &ctx->cfg[ST(3)]);
	restore(ctx);

	/* Not enabled before the tags are there.  The first one is a look. */
	KUNIT_EXPECT_EQ(test, ctx->nr, 5);
	expect_access(test, 1, CTRL, 4, MODE_DS);
	expect_access(test, 2, ST(0), 4, 0x00020001);
	expect_access(test, 3, ST(2), 2, 3);
	expect_access(test, 4, CTRL, 4, MODE_DS | TPH << 8);
	expect_state(test, MODE_DS, TPH);
	KUNIT_EXPECT_EQ(test, cfg_st(ctx, 3), 0xdead);

	/* Nothing was reset: TPH is off while the tags are written */
	clear_log(ctx);
	restore(ctx);
	KUNIT_EXPECT_EQ(test, ctx->nr, 5);
	expect_access(test, 1, CTRL, 4, MODE_DS);
	expect_access(test, 4, CTRL, 4, MODE_DS | TPH << 8);
	expect_state(test, MODE_DS, TPH);
}

/* What somebody is about to write must not be used before that is done */
static void tph_restore_paused(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;

	program_cap(test, TPH);
	KUNIT_ASSERT_EQ(test, pcie_tph_pause(ctx->pdev), 0);

	wipe(ctx);
	restore(ctx);
	KUNIT_EXPECT_EQ(test, cfg_dword(ctx, CTRL), MODE_DS);
	KUNIT_EXPECT_EQ(test, cfg_dword(ctx, ST(2)), 0x00040003);

	KUNIT_EXPECT_EQ(test, pcie_tph_resume(ctx->pdev), 0);
	expect_state(test, MODE_DS, TPH);
}

/* A device that the kernel has not used for TPH is none of its business */
static void tph_restore_unused(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;

	put_unaligned_le32(MODE_DS | TPH << 8, &ctx->cfg[CTRL]);
	probe(ctx, ALL_MODES | IN_CAP | ENTRIES(4));
	restore(ctx);
	KUNIT_EXPECT_EQ(test, ctx->nr, 0);
}

static void set_cap(struct tph_ctx *ctx, u32 cap)
{
	put_unaligned_le32(cap, &ctx->cfg[TPH_POS + PCI_TPH_CAP]);
}

static void expect_refused(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;

	KUNIT_EXPECT_EQ(test, pcie_tph_max_req_type(ctx->pdev), OFF);
	KUNIT_EXPECT_EQ(test, pcie_tph_st_modes(ctx->pdev), 0);
	KUNIT_EXPECT_EQ(test, pcie_tph_get_st_table_size(ctx->pdev), 0);
	KUNIT_EXPECT_EQ(test, pcie_enable_tph(ctx->pdev, MODE_DS), -EINVAL);
	clear_log(ctx);
	restore(ctx);
	pcie_disable_tph(ctx->pdev);
	KUNIT_EXPECT_EQ(test, ctx->nr, 0);
}

/* New firmware of the device has brought a smaller table */
static void tph_restore_changed(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;

	program_cap(test, TPH);

	wipe(ctx);
	set_cap(ctx, ALL_MODES | IN_CAP | ENTRIES(2));
	put_unaligned_le32(0xdeadbeef, &ctx->cfg[ST(2)]);
	restore(ctx);
	KUNIT_EXPECT_EQ(test, cfg_dword(ctx, CTRL), 0);
	KUNIT_EXPECT_EQ(test, cfg_dword(ctx, ST(2)), 0xdeadbeef);
	expect_refused(test);
}

/* or another capability in its place, which is not to be written to */
static void tph_restore_replaced(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;

	program_cap(test, TPH);

	put_unaligned_le32(PCI_EXT_CAP_ID_ERR | 1 << 16, &ctx->cfg[TPH_POS]);
	set_cap(ctx, 0x12345678);
	put_unaligned_le32(0xdeadbeef, &ctx->cfg[CTRL]);
	put_unaligned_le32(0xdeadbeef, &ctx->cfg[ST(0)]);
	restore(ctx);
	KUNIT_EXPECT_EQ(test, cfg_dword(ctx, CTRL), 0xdeadbeef);
	KUNIT_EXPECT_EQ(test, cfg_dword(ctx, ST(0)), 0xdeadbeef);
	expect_refused(test);
}

/* A reset can bring up a link in another mode */
static void tph_restore_left_flit(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;

	set_completer(ctx, PCI_EXP_DEVCAP2_TPH_COMP_EXT_TPH);
	set_prefixes(ctx, ROOT_PORT, 0);
	set_prefixes(ctx, ENDPOINT, 0);
	ctx->port[ROOT_PORT].bus.flit_mode = 1;
	probe(ctx, ALL_MODES | EXT | IN_CAP | ENTRIES(4));
	set_tags(test, EXT_TPH);

	wipe(ctx);
	restore(ctx);
	expect_state(test, MODE_DS, EXT_TPH);

	ctx->port[ROOT_PORT].bus.flit_mode = 0;
	wipe(ctx);
	restore(ctx);
	expect_state(test, MODE_DS, OFF);
	KUNIT_EXPECT_EQ(test, cfg_dword(ctx, ST(2)), 0x00040003);
}

static void tph_restore_off(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;

	program_cap(test, OFF);

	wipe(ctx);
	restore(ctx);
	expect_state(test, MODE_DS, OFF);
	KUNIT_EXPECT_EQ(test, cfg_dword(ctx, ST(0)), 0x00020001);
	KUNIT_EXPECT_EQ(test, cfg_dword(ctx, ST(2)), 0x00040003);
}

static void tph_restore_fails(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;

	program_cap(test, TPH);

	wipe(ctx);
	fail_write(ctx, ST(2), 0, 1);
	restore(ctx);
	expect_state(test, MODE_DS, OFF);

	/* The write to enable TPH had its effect, of which the kernel can't know */
	KUNIT_ASSERT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, MODE_DS, TPH), 0);
	wipe(ctx);
	fail_write(ctx, CTRL, 1, 1);
	ctx->fail_late = true;
	restore(ctx);
	KUNIT_EXPECT_EQ(test, ctx->fail_count, 0);
	expect_state(test, MODE_DS, OFF);
}

static void tph_clear_on_restore(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;
	int i;

	program_cap(test, TPH);

	/* Refused, so that nothing was reset */
	pcie_tph_clear_on_restore(ctx->pdev);
	KUNIT_EXPECT_FALSE(test, pcie_tph_clear_on_restore_done(ctx->pdev));
	expect_state(test, MODE_DS, TPH);

	/* Not without the mark, nor with that of another task */
	for (i = 0; i < 2; i++) {
		ctx->pdev->tph_clear_task = i ? &init_task : NULL;
		wipe(ctx);
		restore(ctx);
		expect_state(test, MODE_DS, TPH);
		KUNIT_EXPECT_EQ(test, cfg_dword(ctx, ST(2)), 0x00040003);
	}

	/* A reset that failed half-way has left everything in place */
	pcie_tph_clear_on_restore(ctx->pdev);
	restore(ctx);
	KUNIT_EXPECT_TRUE(test, pcie_tph_clear_on_restore_done(ctx->pdev));
	expect_state(test, MODE_NS, OFF);
	expect_no_tags(test);

	/* Once only */
	KUNIT_ASSERT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, MODE_DS, TPH), 0);
	wipe(ctx);
	restore(ctx);
	expect_state(test, MODE_DS, TPH);
}

static void tph_clear(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;

	program_cap(test, TPH);
	KUNIT_EXPECT_EQ(test, pcie_tph_mode(ctx->pdev), MODE_DS);

	KUNIT_EXPECT_EQ(test, pcie_tph_clear(ctx->pdev), 0);
	expect_state(test, MODE_NS, OFF);
	KUNIT_EXPECT_EQ(test, pcie_tph_mode(ctx->pdev), MODE_NS);
	expect_no_tags(test);

	/* What was written behind the kernel's back goes, too */
	put_unaligned_le32(0x101, &ctx->cfg[CTRL]);
	put_unaligned_le32(0x00040003, &ctx->cfg[ST(2)]);
	ctx->nr = 0;
	KUNIT_EXPECT_EQ(test, pcie_tph_clear(ctx->pdev), 0);
	expect_state(test, MODE_NS, OFF);
	KUNIT_EXPECT_EQ(test, cfg_dword(ctx, ST(2)), 0);
	/* TPH is off before a tag changes, after a look at the capability */
	expect_access(test, 1, CTRL, 4, MODE_NS);

	/* What could not be cleared now is cleared by the next restore */
	set_tags(test, TPH);
	fail_write(ctx, CTRL, 0, 1);
	KUNIT_EXPECT_EQ(test, pcie_tph_clear(ctx->pdev), -EIO);
	KUNIT_EXPECT_EQ(test, pcie_tph_enabled_req_type(ctx->pdev), OFF);
	restore(ctx);
	expect_state(test, MODE_NS, OFF);
	expect_no_tags(test);

	fail_write(ctx, ST(2), 0, 1);
	KUNIT_EXPECT_EQ(test, pcie_tph_clear(ctx->pdev), -EIO);
	KUNIT_EXPECT_EQ(test, pcie_tph_clear(ctx->pdev), 0);
}

static void tph_forget(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;

	program_cap(test, TPH);

	/* After a reset */
	wipe(ctx);
	pcie_tph_forget(ctx->pdev);
	expect_state(test, MODE_NS, OFF);
	restore(ctx);
	expect_state(test, MODE_NS, OFF);
	expect_no_tags(test);

	/* If there was none the hardware agrees nevertheless, TPH first */
	set_tags(test, TPH);
	ctx->nr = 0;
	pcie_tph_forget(ctx->pdev);
	expect_state(test, MODE_NS, OFF);
	expect_no_tags(test);
	expect_access(test, 1, CTRL, 4, MODE_NS);

	/* It can be used again */
	KUNIT_EXPECT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, MODE_DS, TPH), 0);
	expect_state(test, MODE_DS, TPH);

	/* Unless the reset has brought a smaller table */
	set_cap(ctx, ALL_MODES | IN_CAP | ENTRIES(2));
	put_unaligned_le32(0xdeadbeef, &ctx->cfg[ST(2)]);
	pcie_tph_forget(ctx->pdev);
	expect_refused(test);
	KUNIT_EXPECT_EQ(test, cfg_dword(ctx, CTRL), 0);
	KUNIT_EXPECT_EQ(test, cfg_dword(ctx, ST(2)), 0xdeadbeef);
}

static void tph_clear_changed(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;

	probe(ctx, ALL_MODES | IN_CAP | ENTRIES(4));
	KUNIT_ASSERT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, MODE_DS, TPH), 0);

	/* No answer is not another answer */
	set_cap(ctx, ~0);
	KUNIT_EXPECT_EQ(test, pcie_tph_clear(ctx->pdev), -EIO);
	KUNIT_EXPECT_EQ(test, pcie_tph_st_modes(ctx->pdev), ALL_MODES);

	set_cap(ctx, ALL_MODES | IN_CAP | ENTRIES(64));
	KUNIT_EXPECT_EQ(test, pcie_tph_clear(ctx->pdev), -EOPNOTSUPP);
	/* Off, and refused from then on */
	KUNIT_EXPECT_EQ(test, cfg_dword(ctx, CTRL), 0);
	expect_refused(test);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, MODE_NS, TPH),
			-EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, pcie_tph_clear(ctx->pdev), -EOPNOTSUPP);
}

/* Tags of CPUs */

static void tph_cpu_st_tag(struct kunit *test)
{
	struct pcie_tph_cpu_st st = {
		.mem[TPH_MEM_TYPE_VM] = {
			.st = 0x41, .st_valid = true, .xst = 0x4141,
		},
		.mem[TPH_MEM_TYPE_PM] = {
			.st = 0x42, .xst = 0x4242, .xst_valid = true,
		},
	};

	KUNIT_EXPECT_EQ(test, pcie_tph_cpu_st_tag(&st, TPH_MEM_TYPE_VM, TPH), 0x41);
	KUNIT_EXPECT_EQ(test, pcie_tph_cpu_st_tag(&st, TPH_MEM_TYPE_VM, EXT_TPH), 0);
	KUNIT_EXPECT_EQ(test, pcie_tph_cpu_st_tag(&st, TPH_MEM_TYPE_VM, OFF), 0);
	KUNIT_EXPECT_EQ(test, pcie_tph_cpu_st_tag(&st, TPH_MEM_TYPE_PM, TPH), 0);
	KUNIT_EXPECT_EQ(test, pcie_tph_cpu_st_tag(&st, TPH_MEM_TYPE_PM, EXT_TPH),
			0x4242);
	KUNIT_EXPECT_EQ(test, pcie_tph_cpu_st_tag(&st, TPH_MEM_TYPE_PM + 1, TPH), 0);
}

/* Each field of the answer of the _DSM */
static void tph_cpu_st_fields(struct kunit *test)
{
#ifdef CONFIG_ACPI
	struct pcie_tph_cpu_st st, ones;
	u64 value;
	int i;

	tph_parse_st_info(0, &st);
	KUNIT_EXPECT_NULL(test, memchr_inv(&st, 0, sizeof(st)));
	tph_parse_st_info(~0ULL, &ones);

	for (i = 0; i <= TPH_MEM_TYPE_PM; i++) {
		KUNIT_EXPECT_EQ(test, ones.mem[i].st, 0xff);
		KUNIT_EXPECT_EQ(test, ones.mem[i].xst, 0xffff);

		/* The lower half is about volatile memory */
		value = 0x12344101ULL << 32 * i;
		tph_parse_st_info(value, &st);
		KUNIT_EXPECT_TRUE(test, st.mem[i].st_valid);
		KUNIT_EXPECT_FALSE(test, st.mem[i].xst_valid);
		KUNIT_EXPECT_FALSE(test, st.mem[i].ph_ignore);
		KUNIT_EXPECT_EQ(test, st.mem[i].st, 0x41);
		KUNIT_EXPECT_EQ(test, st.mem[i].xst, 0x1234);
		KUNIT_EXPECT_EQ(test, st.mem[!i].st, 0);
		KUNIT_EXPECT_EQ(test, st.mem[!i].xst, 0);
		KUNIT_EXPECT_FALSE(test, st.mem[!i].st_valid);

		tph_parse_st_info(0x2ULL << 32 * i, &st);
		KUNIT_EXPECT_FALSE(test, st.mem[i].st_valid);
		KUNIT_EXPECT_TRUE(test, st.mem[i].xst_valid);
		KUNIT_EXPECT_FALSE(test, st.mem[i].ph_ignore);
		KUNIT_EXPECT_FALSE(test, st.mem[!i].xst_valid);

		tph_parse_st_info(0x4ULL << 32 * i, &st);
		KUNIT_EXPECT_FALSE(test, st.mem[i].st_valid);
		KUNIT_EXPECT_FALSE(test, st.mem[i].xst_valid);
		KUNIT_EXPECT_TRUE(test, st.mem[i].ph_ignore);
		KUNIT_EXPECT_FALSE(test, st.mem[!i].ph_ignore);

		/* Reserved */
		tph_parse_st_info(0xf8ULL << 32 * i, &st);
		KUNIT_EXPECT_NULL(test, memchr_inv(&st, 0, sizeof(st)));
	}
#else
	kunit_skip(test, "needs CONFIG_ACPI");
#endif
}

static void tph_check_cpu(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, pcie_tph_check_cpu(cpumask_first(cpu_online_mask)), 0);
	KUNIT_EXPECT_EQ(test, pcie_tph_check_cpu(nr_cpu_ids), -EPERM);
	KUNIT_EXPECT_EQ(test, pcie_tph_check_cpu(~0), -EPERM);
}

/* The platform of this test tells no tags, and -EINVAL is all that drivers get */
static void tph_get_cpu_st(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;
	u16 tag = 0x5a;

	probe(ctx, ALL_MODES | IN_CAP | ENTRIES(4));
	KUNIT_ASSERT_EQ(test, pcie_enable_tph(ctx->pdev, MODE_DS), 0);

#ifdef CONFIG_ACPI
	KUNIT_EXPECT_EQ(test, pcie_tph_get_cpu_st(ctx->pdev, TPH_MEM_TYPE_VM, 0,
						  &tag), -EINVAL);
	KUNIT_EXPECT_EQ(test, tag, 0);
	tag = 0x5a;
#endif
	/* Integrated into the Root Complex */
	ctx->pdev->bus = &ctx->root_bus;
	KUNIT_EXPECT_EQ(test, pcie_tph_get_cpu_st(ctx->pdev, TPH_MEM_TYPE_VM, 0,
						  &tag), -ENODEV);
	KUNIT_EXPECT_EQ(test, tag, 0x5a);
}

/* Tags in the MSI-X Table */

static u32 *vctrl(struct tph_ctx *ctx, unsigned int index)
{
	return &ctx->table[(index * PCI_MSIX_ENTRY_SIZE +
			    PCI_MSIX_ENTRY_VECTOR_CTRL) / sizeof(u32)];
}

/* Count, and let the real function do it */
static int tph_stub_set_tag(struct msi_desc *desc, u16 tag, bool write)
{
	struct kunit *test = kunit_get_current_test();
	struct tph_ctx *ctx = test->priv;
	int ret;

	if (write) {
		/* The window is open for every one of them */
		KUNIT_EXPECT_EQ(test, cfg_dword(ctx, CTRL) &
				PCI_TPH_CTRL_REQ_EN_MASK, 0);
		ctx->vctrl_writes++;
	}

	kunit_deactivate_static_stub(test, msix_set_tph_tag);
	ret = msix_set_tph_tag(desc, tag, write);
	kunit_activate_static_stub(test, msix_set_tph_tag, tph_stub_set_tag);

	return ret;
}

static u32 tph_stub_flush(struct msi_desc *desc)
{
	struct tph_ctx *ctx = kunit_get_current_test()->priv;

	ctx->flushes++;

	return *vctrl(ctx, desc->msi_index);
}

static u32 tph_stub_flush_ones(struct msi_desc *desc)
{
	return ~0;
}

static void __iomem *tph_stub_map(struct pci_dev *pdev, unsigned int nr_entries)
{
	struct kunit *test = kunit_get_current_test();
	struct tph_ctx *ctx = test->priv;

	/* TPH is off before a tag changes */
	KUNIT_EXPECT_EQ(test, cfg_dword(ctx, CTRL) & PCI_TPH_CTRL_REQ_EN_MASK, 0);
	ctx->maps++;
	ctx->mapped = nr_entries;

	return (void __iomem __force *)ctx->table;
}

static void tph_stub_unmap(void __iomem *base)
{
	struct kunit *test = kunit_get_current_test();
	struct tph_ctx *ctx = test->priv;

	KUNIT_EXPECT_PTR_EQ(test, (u32 __force *)base, ctx->table);
	ctx->unmaps++;
}

static void tph_dev_release(struct device *dev)
{
}

/* Vectors for all of @size entries but @hole, in a table that holds @old */
static void enable_msix_table(struct kunit *test, int size, int hole, u32 old)
{
	struct tph_ctx *ctx = test->priv;
	struct pci_dev *pdev = ctx->pdev;
	struct msi_desc *desc;
	int i, irq;

	ctx->table = kunit_kzalloc(test, size * PCI_MSIX_ENTRY_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, ctx->table);
	for (i = 0; i < size; i++)
		*vctrl(ctx, i) = old;

	ctx->irqs = kunit_kcalloc(test, size, sizeof(*ctx->irqs), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, ctx->irqs);
	ctx->nr_vectors = size;

	probe_at(ctx, TPH_POS, ALL_MODES | IN_MSIX |
		 FIELD_PREP(PCI_TPH_CAP_ST_MASK, size - 1), size);

	KUNIT_ASSERT_EQ(test, device_register(&pdev->dev), 0);
	ctx->registered = true;
	KUNIT_ASSERT_EQ(test, msi_setup_device_data(&pdev->dev), 0);
	pdev->msix_base = (void __iomem __force *)ctx->table;
	pdev->msix_enabled = 1;

	for (i = 0; i < size; i++) {
		struct msi_desc init = { .msi_index = i };

		if (i == hole)
			continue;

		irq = irq_alloc_desc(NUMA_NO_NODE);
		KUNIT_ASSERT_GT(test, irq, 0);
		ctx->irqs[i] = irq;

		guard(msi_descs_lock)(&pdev->dev);
		msix_prepare_msi_desc(pdev, &init);
		KUNIT_ASSERT_EQ(test, msi_insert_msi_desc(&pdev->dev, &init), 0);
	}

	scoped_guard(msi_descs_lock, &pdev->dev)
		msi_for_each_desc(desc, &pdev->dev, MSI_DESC_NOTASSOCIATED)
			irq_set_msi_desc(ctx->irqs[desc->msi_index], desc);

	kunit_activate_static_stub(test, msix_set_tph_tag, tph_stub_set_tag);
	kunit_activate_static_stub(test, msix_flush_tph_tags, tph_stub_flush);
	kunit_activate_static_stub(test, msix_map_region, tph_stub_map);
	kunit_activate_static_stub(test, msix_unmap_region, tph_stub_unmap);
	pdev->resource[0] = DEFINE_RES_MEM(SZ_1M, SZ_64K);
	clear_log(ctx);
}

static void enable_msix(struct kunit *test, int hole, u32 old)
{
	enable_msix_table(test, TABLE_SIZE, hole, old);
}

static void disable_msix(struct tph_ctx *ctx)
{
	struct device *dev = &ctx->pdev->dev;
	struct msi_desc *desc;
	int i;

	scoped_guard(msi_descs_lock, dev) {
		msi_for_each_desc(desc, dev, MSI_DESC_ASSOCIATED)
			desc->irq = 0;
		msi_free_msi_descs(dev);
	}

	for (i = 0; i < ctx->nr_vectors; i++)
		if (ctx->irqs[i])
			irq_free_desc(ctx->irqs[i]);
}

static u32 cached_vctrl(struct tph_ctx *ctx, unsigned int index)
{
	return irq_get_msi_desc(ctx->irqs[index])->pci.msix_ctrl;
}

static const u16 vector_tags[TABLE_SIZE] = { 1, 2, 3, 4, 5, 6, 7, 8 };

/* A tag for each vector, the writes of which are not counted */
static void enable_msix_with_tags(struct kunit *test, u32 old)
{
	struct tph_ctx *ctx = test->priv;

	enable_msix(test, -1, old);
	KUNIT_ASSERT_EQ(test, pcie_tph_set_st_entries(ctx->pdev, 0, TABLE_SIZE,
						      vector_tags), TABLE_SIZE);
	ctx->vctrl_writes = 0;
	ctx->flushes = 0;
}

/* The kernel keeps no tag for any of the vectors, all of which are masked */
static void expect_cached_clear(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;
	int i;

	for (i = 0; i < TABLE_SIZE; i++)
		KUNIT_EXPECT_EQ(test, cached_vctrl(ctx, i),
				PCI_MSIX_ENTRY_CTRL_MASKBIT);
}

static void tph_msix_accesses(struct kunit *test)
{
	static const u16 tags[] = { 0x21, 0x22, 0x23, 0x24, 0x25 };
	struct tph_ctx *ctx = test->priv;
	int i;

	enable_msix(test, -1, PCI_MSIX_ENTRY_CTRL_MASKBIT);
	KUNIT_ASSERT_EQ(test, pcie_enable_tph(ctx->pdev, MODE_IV), 0);

	clear_log(ctx);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entries(ctx->pdev, 2, 5, tags), 5);
	KUNIT_EXPECT_EQ(test, ctx->vctrl_writes, 5);
	KUNIT_EXPECT_EQ(test, ctx->flushes, 1);
	KUNIT_EXPECT_EQ(test, ctx->nr, 2);
	expect_access(test, 0, CTRL, 4, MODE_IV);
	expect_access(test, 1, CTRL, 4, MODE_IV | TPH << 8);
	for (i = 0; i < TABLE_SIZE; i++)
		KUNIT_EXPECT_EQ(test, *vctrl(ctx, i),
				PCI_MSIX_ENTRY_CTRL_MASKBIT |
				(i >= 2 && i < 7 ? tags[i - 2] << 16 : 0));

	/* Bounds of the table */
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entries(ctx->pdev, 4, 5, tags),
			-EINVAL);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entry(ctx->pdev, 8, 1), -ENXIO);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entry(ctx->pdev, 0x80000000, 1),
			-ENXIO);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entry(ctx->pdev, ~0, 1), -ENXIO);
	KUNIT_EXPECT_EQ(test, ctx->vctrl_writes, 5);
	expect_state(test, MODE_IV, TPH);

	/* Off: no window */
	pcie_disable_tph(ctx->pdev);
	clear_log(ctx);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entries(ctx->pdev, 0, 5, tags), 5);
	KUNIT_EXPECT_EQ(test, ctx->nr, 0);
}

static void tph_msix_no_vector(struct kunit *test)
{
	static const u16 tags[] = { 1, 2, 3, 4 };
	struct tph_ctx *ctx = test->priv;
	u16 tag = 1;

	probe_at(ctx, TPH_POS, ALL_MODES | IN_MSIX | ENTRIES(4), 4);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entries(ctx->pdev, 0, 1, &tag),
			-ENXIO);

	enable_msix(test, 3, 0);
	KUNIT_ASSERT_EQ(test, pcie_enable_tph(ctx->pdev, MODE_IV), 0);

	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entries(ctx->pdev, 1, 4, tags), 2);
	KUNIT_EXPECT_EQ(test, ctx->vctrl_writes, 2);
	KUNIT_EXPECT_EQ(test, ctx->flushes, 1);
	KUNIT_EXPECT_EQ(test, *vctrl(ctx, 4), 0);
	expect_state(test, MODE_IV, TPH);

	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entries(ctx->pdev, 3, 2, tags),
			-ENXIO);
	KUNIT_EXPECT_EQ(test, *vctrl(ctx, 4), 0);
	expect_state(test, MODE_IV, TPH);
}

/* A table that the kernel does not write to is none */
static void tph_msix_no_mask(struct kunit *test)
{
	struct msi_parent_ops ops = { .supported_flags = MSI_FLAG_NO_MASK };
	struct irq_domain domain = {
		.flags = IRQ_DOMAIN_FLAG_HIERARCHY | IRQ_DOMAIN_FLAG_MSI_PARENT,
		.msi_parent_ops = &ops,
	};
	static const u16 tags[] = { 1, 2 };
	struct tph_ctx *ctx = test->priv;

	enable_msix(test, -1, 0x330000);
	KUNIT_ASSERT_EQ(test, pcie_enable_tph(ctx->pdev, MODE_DS), 0);
	KUNIT_ASSERT_EQ(test, pcie_tph_get_st_table_size(ctx->pdev), TABLE_SIZE);
	dev_set_msi_domain(&ctx->pdev->dev, &domain);

	KUNIT_EXPECT_EQ(test, pcie_tph_get_st_table_loc(ctx->pdev),
			PCI_TPH_LOC_MSIX);
	KUNIT_EXPECT_EQ(test, pcie_tph_get_st_table_size(ctx->pdev), 0);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entries(ctx->pdev, 0, 2, tags),
			-EINVAL);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entry(ctx->pdev, 0, 1), -EINVAL);
	KUNIT_EXPECT_EQ(test, pcie_tph_clear(ctx->pdev), 0);
	KUNIT_EXPECT_EQ(test, ctx->vctrl_writes, 0);
	KUNIT_EXPECT_EQ(test, *vctrl(ctx, 0), 0x330000);

	/* A domain whose vectors the kernel masks */
	ops.supported_flags = 0;
	KUNIT_EXPECT_EQ(test, pcie_tph_get_st_table_loc(ctx->pdev),
			PCI_TPH_LOC_MSIX);
	KUNIT_EXPECT_EQ(test, pcie_tph_get_st_table_size(ctx->pdev), TABLE_SIZE);
	dev_set_msi_domain(&ctx->pdev->dev, NULL);
}

static void tph_msix_no_response(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;
	u16 tag = 1;

	enable_msix(test, -1, 0);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entries(ctx->pdev, 0, 1, &tag), 1);

	kunit_activate_static_stub(test, msix_flush_tph_tags,
				   tph_stub_flush_ones);
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entries(ctx->pdev, 0, 1, &tag),
			-EIO);

	/* A tag of ones, not a device that is gone */
	irq_get_msi_desc(ctx->irqs[0])->pci.msix_ctrl = ~0;
	tag = ~0;
	KUNIT_EXPECT_EQ(test, pcie_tph_set_st_entries(ctx->pdev, 0, 1, &tag), 1);
}

/* Vectors come and go without tags */

static void tph_msix_stale_tags(struct kunit *test)
{
	enable_msix(test, -1, 0x12340000 | PCI_MSIX_ENTRY_CTRL_MASKBIT);
	expect_cached_clear(test);
}

static void tph_msix_freed_vectors(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;
	int i;

	enable_msix_with_tags(test, 0);
	KUNIT_ASSERT_EQ(test, *vctrl(ctx, 7), 8 << 16);

	scoped_guard(msi_descs_lock, &ctx->pdev->dev)
		pci_msix_shutdown(ctx->pdev);

	for (i = 0; i < TABLE_SIZE; i++)
		KUNIT_EXPECT_EQ(test, *vctrl(ctx, i), PCI_MSIX_ENTRY_CTRL_MASKBIT);
}

static void tph_msix_clear_on_restore(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;
	int i;

	enable_msix_with_tags(test, PCI_MSIX_ENTRY_CTRL_MASKBIT);

	pci_tph_prepare_restore(ctx->pdev);
	KUNIT_EXPECT_EQ(test, cached_vctrl(ctx, 7),
			8 << 16 | PCI_MSIX_ENTRY_CTRL_MASKBIT);

	pcie_tph_clear_on_restore(ctx->pdev);
	pci_tph_prepare_restore(ctx->pdev);
	KUNIT_EXPECT_TRUE(test, pcie_tph_clear_on_restore_done(ctx->pdev));
	expect_cached_clear(test);
	for (i = 0; i < TABLE_SIZE; i++)
		KUNIT_EXPECT_EQ(test, *vctrl(ctx, i), vector_tags[i] << 16 |
				PCI_MSIX_ENTRY_CTRL_MASKBIT);
	KUNIT_EXPECT_EQ(test, ctx->vctrl_writes, 0);
	KUNIT_EXPECT_EQ(test, ctx->flushes, 0);
}

/* Entries without a vector.  The MSI-X Table is twice the ST table. */

#define ST_SIZE		(TABLE_SIZE / 2)

/* All bits of a tag, and of the others a reserved one and some mask bits */
static u32 left_vctrl(unsigned int index)
{
	return PCI_MSIX_ENTRY_CTRL_ST | BIT(4) |
	       (index & 1 ? PCI_MSIX_ENTRY_CTRL_MASKBIT : 0);
}

static void leave_tags(struct tph_ctx *ctx)
{
	int i;

	memset(ctx->table, 0x5a, TABLE_SIZE * PCI_MSIX_ENTRY_SIZE);
	for (i = 0; i < TABLE_SIZE; i++)
		*vctrl(ctx, i) = left_vctrl(i);
}

/* The tags of the first @nr entries are cleared, and all else is as it was */
static void expect_table_clear(struct kunit *test, unsigned int nr)
{
	struct tph_ctx *ctx = test->priv;
	u32 *entry = ctx->table;
	unsigned int i;

	for (i = 0; i < TABLE_SIZE; i++) {
		KUNIT_EXPECT_NULL(test, memchr_inv(entry, 0x5a,
						   PCI_MSIX_ENTRY_VECTOR_CTRL));
		KUNIT_EXPECT_EQ(test, *vctrl(ctx, i), left_vctrl(i) &
				~(i < nr ? PCI_MSIX_ENTRY_CTRL_ST : 0));
		entry += PCI_MSIX_ENTRY_SIZE / sizeof(*entry);
	}
}

static void prepare_no_vectors(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;

	ctx->table = kunit_kzalloc(test, TABLE_SIZE * PCI_MSIX_ENTRY_SIZE,
				   GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, ctx->table);
	leave_tags(ctx);
	probe_at(ctx, TPH_POS, ALL_MODES | IN_MSIX | ENTRIES(ST_SIZE),
		 TABLE_SIZE);
	ctx->pdev->resource[0] = DEFINE_RES_MEM(SZ_1M, SZ_64K);
	kunit_activate_static_stub(test, msix_map_region, tph_stub_map);
	kunit_activate_static_stub(test, msix_unmap_region, tph_stub_unmap);
}

static void tph_msix_clear_no_vectors(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;
	struct pci_dev *pdev = ctx->pdev;
	u32 msix;

	prepare_no_vectors(test);
	msix = cfg_dword(ctx, MSIX_POS);

	/* Not accessed while TPH may be on, nor when the BAR is not there */
	KUNIT_ASSERT_EQ(test, pcie_tph_set_ctrl(pdev, MODE_DS, TPH), 0);
	fail_write(ctx, CTRL, 0, 1);
	KUNIT_EXPECT_EQ(test, pcie_tph_clear(pdev), -EIO);
	pcie_tph_forget(pdev);
	KUNIT_EXPECT_EQ(test, ctx->maps, 0);
	expect_table_clear(test, 0);

	KUNIT_ASSERT_EQ(test, pcie_tph_set_ctrl(pdev, MODE_DS, TPH), 0);
	KUNIT_EXPECT_EQ(test, pcie_tph_clear(pdev), 0);
	expect_state(test, MODE_NS, OFF);
	KUNIT_EXPECT_EQ(test, ctx->maps, 1);
	KUNIT_EXPECT_EQ(test, ctx->mapped, ST_SIZE);
	KUNIT_EXPECT_EQ(test, ctx->unmaps, 1);
	expect_table_clear(test, ST_SIZE);

	/* All ones need not mean that the device does not respond */
	leave_tags(ctx);
	*vctrl(ctx, 2) = ~0;
	KUNIT_EXPECT_EQ(test, pcie_tph_clear_unused(pdev), 0);
	KUNIT_EXPECT_EQ(test, ctx->maps, 2);
	KUNIT_EXPECT_EQ(test, ctx->unmaps, 2);
	KUNIT_EXPECT_EQ(test, *vctrl(ctx, 2), ~PCI_MSIX_ENTRY_CTRL_ST);
	*vctrl(ctx, 2) = left_vctrl(2) & ~PCI_MSIX_ENTRY_CTRL_ST;
	expect_table_clear(test, ST_SIZE);
	KUNIT_EXPECT_EQ(test, cfg_dword(ctx, MSIX_POS), msix);

	/* No mapping */
	ctx->table = NULL;
	KUNIT_EXPECT_EQ(test, pcie_tph_clear(pdev), -ENOMEM);
	KUNIT_EXPECT_EQ(test, ctx->maps, 3);
	KUNIT_EXPECT_EQ(test, ctx->unmaps, 2);

	/* No BAR */
	pdev->resource[0] = (struct resource) {};
	KUNIT_EXPECT_EQ(test, pcie_tph_clear(pdev), 0);
	KUNIT_EXPECT_EQ(test, ctx->maps, 3);
}

/* MSI-X Enable must not be set beside MSI Enable */
static void tph_msix_clear_beside_msi(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;
	int i;

	prepare_no_vectors(test);

	KUNIT_EXPECT_EQ(test, pcie_tph_clear_unused(ctx->pdev), 0);
	/* Its size is read first, and its place */
	KUNIT_EXPECT_EQ(test, ctx->nr, 4);
	expect_access(test, 2, MSIX_POS + PCI_MSIX_FLAGS, 2,
		      PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL |
		      (TABLE_SIZE - 1));
	expect_access(test, 3, MSIX_POS + PCI_MSIX_FLAGS, 2, TABLE_SIZE - 1);

	leave_tags(ctx);
	clear_log(ctx);
	ctx->pdev->msi_enabled = 1;
	KUNIT_EXPECT_EQ(test, pcie_tph_clear_unused(ctx->pdev), 0);
	for (i = 0; i < ctx->nr; i++)
		KUNIT_EXPECT_FALSE(test, ctx->log[i].write);
	expect_table_clear(test, ST_SIZE);
}

/* Nothing behind the table is touched, whatever has become of it since probe */
static void tph_msix_clear_smaller(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;

	prepare_no_vectors(test);

	put_unaligned_le16(3 - 1, &ctx->cfg[MSIX_POS + PCI_MSIX_FLAGS]);
	KUNIT_EXPECT_EQ(test, pcie_tph_clear_unused(ctx->pdev), 0);
	KUNIT_EXPECT_EQ(test, ctx->mapped, 3);
	expect_table_clear(test, 3);

	put_unaligned_le16(TABLE_SIZE - 1, &ctx->cfg[MSIX_POS + PCI_MSIX_FLAGS]);
	leave_tags(ctx);
	put_unaligned_le32(SZ_64K - 2 * PCI_MSIX_ENTRY_SIZE,
			   &ctx->cfg[MSIX_POS + PCI_MSIX_TABLE]);
	KUNIT_EXPECT_EQ(test, pcie_tph_clear_unused(ctx->pdev), 0);
	KUNIT_EXPECT_EQ(test, ctx->mapped, 2);
	expect_table_clear(test, 2);

	ctx->maps = 0;
	put_unaligned_le32(SZ_64K, &ctx->cfg[MSIX_POS + PCI_MSIX_TABLE]);
	KUNIT_EXPECT_EQ(test, pcie_tph_clear_unused(ctx->pdev), 0);
	KUNIT_EXPECT_EQ(test, ctx->maps, 0);

	put_unaligned_le16(~0, &ctx->cfg[MSIX_POS + PCI_MSIX_FLAGS]);
	KUNIT_EXPECT_EQ(test, pcie_tph_clear_unused(ctx->pdev), -EIO);
	KUNIT_EXPECT_EQ(test, ctx->maps, 0);
}

/* The PF has changed the number of vectors of a VF */
static void tph_msix_size_changed(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;

	probe_at(ctx, TPH_POS, ALL_MODES | IN_MSIX | ENTRIES(TABLE_SIZE), TABLE_SIZE);
	KUNIT_EXPECT_EQ(test, pcie_tph_get_st_table_size(ctx->pdev), TABLE_SIZE);

	put_unaligned_le16(3 - 1, &ctx->cfg[MSIX_POS + PCI_MSIX_FLAGS]);
	pci_tph_msix_resized(ctx->pdev);
	KUNIT_EXPECT_EQ(test, pcie_tph_get_st_table_size(ctx->pdev), 3);

	/* No answer: as before */
	put_unaligned_le16(~0, &ctx->cfg[MSIX_POS + PCI_MSIX_FLAGS]);
	pci_tph_msix_resized(ctx->pdev);
	KUNIT_EXPECT_EQ(test, pcie_tph_get_st_table_size(ctx->pdev), 3);
}

static void tph_msix_clear(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;
	int i;

	enable_msix_with_tags(test, PCI_MSIX_ENTRY_CTRL_MASKBIT);
	KUNIT_ASSERT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, MODE_IV, TPH), 0);

	/* A user can write what a device that is gone would answer */
	memset(ctx->table, 0xff, PCI_MSIX_ENTRY_VECTOR_CTRL);

	KUNIT_EXPECT_EQ(test, pcie_tph_clear(ctx->pdev), 0);
	KUNIT_EXPECT_EQ(test, ctx->flushes, 1);
	expect_state(test, MODE_NS, OFF);
	expect_cached_clear(test);
	for (i = 0; i < TABLE_SIZE; i++)
		KUNIT_EXPECT_EQ(test, *vctrl(ctx, i),
				PCI_MSIX_ENTRY_CTRL_MASKBIT);
}

/* A vector was freed while the table could not be accessed */
static void tph_msix_clear_freed(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;
	int i;

	enable_msix(test, 3, 0x12340000 | PCI_MSIX_ENTRY_CTRL_MASKBIT);

	KUNIT_EXPECT_EQ(test, pcie_tph_clear(ctx->pdev), 0);
	KUNIT_EXPECT_EQ(test, ctx->vctrl_writes, TABLE_SIZE - 1);
	for (i = 0; i < TABLE_SIZE; i++)
		KUNIT_EXPECT_EQ(test, *vctrl(ctx, i),
				PCI_MSIX_ENTRY_CTRL_MASKBIT);
}

static void tph_msix_forget(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;

	enable_msix_with_tags(test, PCI_MSIX_ENTRY_CTRL_MASKBIT);
	KUNIT_ASSERT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, MODE_IV, TPH), 0);

	/* The BAR is not there, and no later write brings a tag back */
	pcie_tph_forget(ctx->pdev);
	expect_state(test, MODE_NS, OFF);
	KUNIT_EXPECT_EQ(test, ctx->vctrl_writes, 0);
	KUNIT_EXPECT_EQ(test, ctx->flushes, 0);
	expect_cached_clear(test);
}

/*
 * Benchmark: what a batch costs, compared with the loop over single entries that
 * it replaces.
 *
 * base_*() do what pcie_tph_set_st_entry() did in Linux 7.3: in
 * drivers/pci/tph.c set_ctrl_reg_req_en(), pcie_tph_get_st_table_loc(), and
 * write_tag_to_st_table() with pcie_tph_get_st_table_size(); in
 * drivers/pci/msi/msi.c pci_msix_write_tph_tag().  All accesses, locks and
 * look-ups are the same, but the handling of errors is left out.
 */

static void base_set_req_en(struct pci_dev *pdev, u8 req_type)
{
	u32 reg;

	pci_read_config_dword(pdev, pdev->tph_cap + PCI_TPH_CTRL, &reg);
	FIELD_MODIFY(PCI_TPH_CTRL_REQ_EN_MASK, &reg, req_type);
	pci_write_config_dword(pdev, pdev->tph_cap + PCI_TPH_CTRL, reg);
}

static u32 base_st_table_loc(struct pci_dev *pdev)
{
	u32 reg;

	pci_read_config_dword(pdev, pdev->tph_cap + PCI_TPH_CAP, &reg);

	return reg & PCI_TPH_CAP_LOC_MASK;
}

static int base_write_cap(struct pci_dev *pdev, unsigned int index, u16 tag)
{
	u32 reg;

	/* The size, which is that of a table in the capability alone */
	if (base_st_table_loc(pdev) != PCI_TPH_LOC_CAP)
		return -ENXIO;
	pci_read_config_dword(pdev, pdev->tph_cap + PCI_TPH_CAP, &reg);
	if (index > FIELD_GET(PCI_TPH_CAP_ST_MASK, reg))
		return -ENXIO;

	return pci_write_config_word(pdev, ST(index), tag);
}

static int base_write_msix(struct pci_dev *pdev, unsigned int index, u16 tag)
{
	unsigned int virq = msi_get_virq(&pdev->dev, index);
	struct tph_ctx *ctx = pdev->bus->sysdata;
	struct irq_desc *irq_desc;
	struct msi_desc *desc;

	guard(msi_descs_lock)(&pdev->dev);
	irq_desc = irq_to_desc(virq);
	if (!irq_desc)
		return -ENXIO;

	guard(raw_spinlock_irq)(&irq_desc->lock);
	desc = irq_data_get_msi_desc(&irq_desc->irq_data);
	FIELD_MODIFY(PCI_MSIX_ENTRY_CTRL_ST, &desc->pci.msix_ctrl, tag);
	pci_msix_write_vector_ctrl(desc, desc->pci.msix_ctrl);
	ctx->vctrl_writes++;
	readl(pci_msix_desc_addr(desc));
	ctx->flushes++;

	return 0;
}

static int base_set_st_entries(struct pci_dev *pdev, unsigned int start,
			       unsigned int count, const u16 *tags)
{
	unsigned int i;
	int ret;

	for (i = 0; i < count; i++) {
		base_set_req_en(pdev, OFF);
		if (base_st_table_loc(pdev) == PCI_TPH_LOC_MSIX)
			ret = base_write_msix(pdev, start + i, tags[i]);
		else
			ret = base_write_cap(pdev, start + i, tags[i]);
		if (ret)
			return ret;
		base_set_req_en(pdev, pdev->tph_req_type);
	}

	return count;
}

struct tph_bench_param {
	const char	*table;
	u32		loc;
	unsigned int	size;
};

static const struct tph_bench_param tph_bench_params[] = {
	{ "cap/64", IN_CAP, 64 },
	{ "msix/32", IN_MSIX, 32 },
	{ "msix/2048", IN_MSIX, 2048 },
};

KUNIT_ARRAY_PARAM_DESC(tph_bench, tph_bench_params, table);

struct tph_bench_run {
	const char	*name;
	struct pci_dev	*pdev;
	int		(*set)(struct pci_dev *pdev, unsigned int start,
			       unsigned int count, const u16 *tags);
	unsigned int	start;
	unsigned int	count;
	u16		*tags;
	u64		ns;
};

/* Not in the task of the test, where each stub is looked up, active or not */
static long tph_bench_time(void *arg)
{
	struct tph_bench_run *run = arg;
	u64 start = ktime_get_ns();
	int done;

	done = run->set(run->pdev, run->start, run->count, run->tags);
	run->ns = min(run->ns, ktime_get_ns() - start);

	return done;
}

static u16 st_entry(struct tph_ctx *ctx, unsigned int index)
{
	if (ctx->table)
		return FIELD_GET(PCI_MSIX_ENTRY_CTRL_ST, *vctrl(ctx, index));

	return cfg_st(ctx, index);
}

/* @accesses to config space, @windows, and @flushes are what is expected */
static void tph_bench_count(struct kunit *test, struct tph_bench_run *run,
			    unsigned int accesses, unsigned int windows,
			    unsigned int flushes)
{
	const struct tph_bench_param *p = test->param_value;
	struct tph_ctx *ctx = test->priv;
	unsigned int i;

	for (i = 0; i < run->count; i++)
		run->tags[i] += i + 1;
	ctx->vctrl_writes = 0;
	ctx->flushes = 0;
	clear_log(ctx);
	KUNIT_EXPECT_EQ(test, run->set(run->pdev, run->start, run->count,
				       run->tags), run->count);

	kunit_info(test, "table=%s entries=%u by=%s cap=%u config=%u windows=%u writes=%u flushes=%u ns=%llu\n",
		   p->table, run->count, run->name, ctx->nr_cap,
		   ctx->nr + ctx->nr_above, ctx->toggles / 2,
		   ctx->vctrl_writes, ctx->flushes, run->ns);

	KUNIT_EXPECT_EQ(test, ctx->nr_cap, accesses);
	KUNIT_EXPECT_EQ(test, ctx->nr + ctx->nr_above, accesses);
	KUNIT_EXPECT_EQ(test, ctx->toggles, 2 * windows);
	KUNIT_EXPECT_EQ(test, ctx->vctrl_writes,
			p->loc == IN_MSIX ? run->count : 0);
	KUNIT_EXPECT_EQ(test, ctx->flushes, flushes);
	expect_state(test, MODE_IV, TPH);
	for (i = 0; i < run->count; i++)
		KUNIT_EXPECT_EQ(test, st_entry(ctx, run->start + i),
				run->tags[i]);
}

/* @n entries at the end, where a walk to a vector would take longest */
static void tph_bench_entries(struct kunit *test, unsigned int n, u16 *tags)
{
	const struct tph_bench_param *p = test->param_value;
	struct tph_ctx *ctx = test->priv;
	struct tph_bench_run base = {
		.name = "base",
		.pdev = ctx->pdev,
		.set = base_set_st_entries,
		.start = p->size - n,
		.count = n,
		.tags = tags,
		.ns = U64_MAX,
	};
	struct tph_bench_run batch = base;
	int i;

	batch.name = "batch";
	batch.set = pcie_tph_set_st_entries;

	/* The shortest time is that with the fewest disturbances */
	for (i = 0; i < 5; i++) {
		KUNIT_ASSERT_EQ(test, work_on_cpu(0, tph_bench_time, &base), n);
		KUNIT_ASSERT_EQ(test, work_on_cpu(0, tph_bench_time, &batch), n);
	}

	if (p->loc == IN_MSIX) {
		tph_bench_count(test, &base, 5 * n, n, n);
		tph_bench_count(test, &batch, 2, 1, 1);
	} else {
		tph_bench_count(test, &base, 8 * n, n, 0);
		tph_bench_count(test, &batch, DIV_ROUND_UP(n, 2) + 2, 1, 0);
	}
}

static void tph_bench(struct kunit *test)
{
	const struct tph_bench_param *p = test->param_value;
	struct tph_ctx *ctx = test->priv;
	u16 *tags;

	tags = kunit_kcalloc(test, p->size, sizeof(*tags), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, tags);

	if (p->loc == IN_MSIX)
		enable_msix_table(test, p->size, -1, 0);
	else
		probe(ctx, ALL_MODES | IN_CAP |
		      FIELD_PREP(PCI_TPH_CAP_ST_MASK, p->size - 1));
	KUNIT_ASSERT_EQ(test, pcie_tph_set_ctrl(ctx->pdev, MODE_IV, TPH), 0);

	tph_bench_entries(test, 1, tags);
	tph_bench_entries(test, 16, tags);
	tph_bench_entries(test, p->size, tags);
}

static void tph_init_bus(struct tph_ctx *ctx, struct pci_bus *bus,
			 struct pci_bus *parent, struct pci_dev *self)
{
	bus->ops = &tph_fake_ops;
	bus->sysdata = ctx;
	bus->parent = parent;
	bus->self = self;
}

static int tph_test_init(struct kunit *test)
{
	static const char * const names[] = {
		"tph-kunit-root-port", "tph-kunit-up", "tph-kunit-down",
	};
	static const u8 types[] = {
		PCI_EXP_TYPE_ROOT_PORT, PCI_EXP_TYPE_UPSTREAM,
		PCI_EXP_TYPE_DOWNSTREAM,
	};
	struct tph_ctx *ctx;
	int i;

	ctx = kunit_kzalloc(test, sizeof(*ctx), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, ctx);
	ctx->pdev = kunit_kzalloc(test, sizeof(*ctx->pdev), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, ctx->pdev);
	test->priv = ctx;

	tph_init_bus(ctx, &ctx->root_bus, NULL, NULL);
	tph_init_bus(ctx, &ctx->other_root_bus, NULL, NULL);
	for (i = 0; i < NR_PORTS; i++) {
		struct tph_port *port = &ctx->port[i];

		tph_init_bus(ctx, &port->bus, &ctx->root_bus, &port->dev);
		port->dev.dev.init_name = names[i];
		port->dev.error_state = pci_channel_io_normal;
		port->dev.pcie_cap = EXP_POS;
		port->dev.pcie_flags_reg = 2 | types[i] << 4;
		set_prefixes(ctx, i, 4);
	}
	ctx->port[ROOT_PORT].dev.bus = &ctx->root_bus;
	set_completer(ctx, PCI_EXP_DEVCAP2_TPH_COMP_TPH_ONLY);

	ctx->pdev->bus = &ctx->port[ROOT_PORT].bus;
	set_prefixes(ctx, ENDPOINT, 4);
	ctx->pdev->dev.init_name = "tph-kunit";
	ctx->pdev->dev.release = tph_dev_release;
	ctx->pdev->error_state = pci_channel_io_normal;
	ctx->pdev->current_state = PCI_D0;
	ctx->pdev->cfg_size = PCI_CFG_SPACE_EXP_SIZE;
	ctx->pdev->pcie_cap = EXP_POS;
	ctx->pdev->pcie_flags_reg = 2 | PCI_EXP_TYPE_ENDPOINT << 4;

	return 0;
}

static void tph_test_exit(struct kunit *test)
{
	struct tph_ctx *ctx = test->priv;

	if (!ctx || !ctx->pdev)
		return;

	if (ctx->registered) {
		disable_msix(ctx);
		device_unregister(&ctx->pdev->dev);
	}

	pci_tph_release(ctx->pdev);
}

static struct kunit_case tph_test_cases[] = {
	KUNIT_CASE(tph_location),
	KUNIT_CASE(tph_location_msix),
	KUNIT_CASE(tph_location_reserved),
	KUNIT_CASE_PARAM(tph_probe, tph_probe_gen_params),
	KUNIT_CASE_PARAM(tph_type, tph_type_gen_params),
	KUNIT_CASE(tph_type_rciep),
	KUNIT_CASE(tph_type_no_response),
	KUNIT_CASE(tph_completer),
	KUNIT_CASE_PARAM(tph_path, tph_path_gen_params),
	KUNIT_CASE(tph_path_left_flit),
	KUNIT_CASE(tph_path_blocked),
	KUNIT_CASE(tph_type_after_st_write),
	KUNIT_CASE(tph_ext_type_after_st_write),
	KUNIT_CASE(tph_enable_fails),
	KUNIT_CASE(tph_enable_bad_mode),
	KUNIT_CASE(tph_set_ctrl_steps),
	KUNIT_CASE(tph_set_ctrl_invalid),
	KUNIT_CASE(tph_set_ctrl_no_completer),
	KUNIT_CASE(tph_set_ctrl_fails),
	KUNIT_CASE(tph_firmware_left_on),
	KUNIT_CASE(tph_index_out_of_range),
	KUNIT_CASE(tph_no_table),
	KUNIT_CASE(tph_st_write_fails),
	KUNIT_CASE(tph_batch_fails),
	KUNIT_CASE(tph_window_fails),
	KUNIT_CASE(tph_batch_accesses),
	KUNIT_CASE(tph_batch_accesses_off),
	KUNIT_CASE(tph_pause_accesses),
	KUNIT_CASE(tph_restore_on),
	KUNIT_CASE(tph_restore_paused),
	KUNIT_CASE(tph_restore_unused),
	KUNIT_CASE(tph_restore_changed),
	KUNIT_CASE(tph_restore_replaced),
	KUNIT_CASE(tph_restore_left_flit),
	KUNIT_CASE(tph_restore_off),
	KUNIT_CASE(tph_restore_fails),
	KUNIT_CASE(tph_clear_on_restore),
	KUNIT_CASE(tph_clear),
	KUNIT_CASE(tph_forget),
	KUNIT_CASE(tph_clear_changed),
	KUNIT_CASE(tph_cpu_st_tag),
	KUNIT_CASE(tph_cpu_st_fields),
	KUNIT_CASE(tph_check_cpu),
	KUNIT_CASE(tph_get_cpu_st),
	KUNIT_CASE(tph_msix_accesses),
	KUNIT_CASE(tph_msix_no_vector),
	KUNIT_CASE(tph_msix_no_mask),
	KUNIT_CASE(tph_msix_no_response),
	KUNIT_CASE(tph_msix_stale_tags),
	KUNIT_CASE(tph_msix_freed_vectors),
	KUNIT_CASE(tph_msix_clear_on_restore),
	KUNIT_CASE(tph_msix_clear_no_vectors),
	KUNIT_CASE(tph_msix_clear_beside_msi),
	KUNIT_CASE(tph_msix_clear_smaller),
	KUNIT_CASE(tph_msix_size_changed),
	KUNIT_CASE(tph_msix_clear),
	KUNIT_CASE(tph_msix_clear_freed),
	KUNIT_CASE(tph_msix_forget),
	{}
};

static struct kunit_suite tph_test_suite = {
	.name = "pci-tph",
	.init = tph_test_init,
	.exit = tph_test_exit,
	.test_cases = tph_test_cases,
};

static struct kunit_case tph_bench_cases[] = {
	KUNIT_CASE_PARAM_ATTR(tph_bench, tph_bench_gen_params,
			      { .speed = KUNIT_SPEED_SLOW }),
	{}
};

static struct kunit_suite tph_bench_suite = {
	.name = "pci-tph-bench",
	.init = tph_test_init,
	.exit = tph_test_exit,
	.test_cases = tph_bench_cases,
};

kunit_test_suites(&tph_test_suite, &tph_bench_suite);
