// SPDX-License-Identifier: GPL-2.0-only
/*
 * PCIe TLP Processing Hints (TPH) for users of vfio-pci
 *
 * The user drives the TPH Requester capability (PCIe r6.x, sec 6.17 and 7.9.13)
 * after opting in with VFIO_DEVICE_FEATURE_TPH.  From then on config space
 * shows what the level of the module parameter "tph" grants, of what the device
 * and the path to its Root Port support.
 *
 * There is one state with three views: the user's in vconfig, that of the PCI
 * core in struct pci_dev, and the hardware.  They agree whenever memory_lock is
 * released, except that the hardware follows at D0 what changes outside of it,
 * and that a reset which nobody announces is noticed at the next access.
 *
 * memory_lock, held for writing, protects all of it, as it protects what TPH
 * depends on: MSI-X vectors, resets and the power state.  Inside of it
 * pci_cfg_access_lock() keeps out resets that do not come through vfio while
 * the hardware is written.
 */

#include <linux/bitfield.h>
#include <linux/bitops.h>
#include <linux/cleanup.h>
#include <linux/cpumask.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/pci.h>
#include <linux/pci-tph.h>
#include <linux/pm_runtime.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/string_choices.h>
#include <linux/uaccess.h>

#include "vfio_pci_priv.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

enum vfio_pci_tph_level {
	VFIO_PCI_TPH_NO_ST,
	VFIO_PCI_TPH_IV,
	VFIO_PCI_TPH_DS,
	VFIO_PCI_TPH_LITERAL,
};

/* What a level grants, as bits of the capability register */
static const u32 vfio_pci_tph_grants[] = {
	[VFIO_PCI_TPH_NO_ST]	= PCI_TPH_CAP_ST_NS,
	[VFIO_PCI_TPH_IV]	= PCI_TPH_CAP_ST_NS | PCI_TPH_CAP_ST_IV |
				  PCI_TPH_CAP_EXT_TPH,
	[VFIO_PCI_TPH_DS]	= PCI_TPH_CAP_ST_NS | PCI_TPH_CAP_ST_IV |
				  PCI_TPH_CAP_ST_DS | PCI_TPH_CAP_EXT_TPH,
	[VFIO_PCI_TPH_LITERAL]	= PCI_TPH_CAP_ST_NS | PCI_TPH_CAP_ST_IV |
				  PCI_TPH_CAP_ST_DS | PCI_TPH_CAP_EXT_TPH,
};

/* ST modes that can use an ST table.  DS can also do without. */
#define VFIO_PCI_TPH_TABLE_MODES	(PCI_TPH_CAP_ST_IV | PCI_TPH_CAP_ST_DS)

/* What a reset clears in PCI_COMMAND, all of it */
#define VFIO_PCI_TPH_COMMAND	(PCI_COMMAND_IO | PCI_COMMAND_MEMORY | \
				 PCI_COMMAND_MASTER)

static unsigned int vfio_pci_tph_level = VFIO_PCI_TPH_NO_ST;

static int vfio_pci_tph_level_set(const char *val, const struct kernel_param *kp)
{
	return param_set_uint_minmax(val, kp, VFIO_PCI_TPH_NO_ST,
				     ARRAY_SIZE(vfio_pci_tph_grants) - 1);
}

static const struct kernel_param_ops vfio_pci_tph_level_ops = {
	.set = vfio_pci_tph_level_set,
	.get = param_get_uint,
};

/*
 * Read-only, so that what a device works with cannot drift from what the
 * parameter says.
 */
module_param_cb(tph, &vfio_pci_tph_level_ops, &vfio_pci_tph_level, 0444);
__MODULE_PARM_TYPE(tph, "uint");
MODULE_PARM_DESC(tph, "Use of PCIe TLP Processing Hints that is granted to users who opt in: 0 = processing hints without Steering Tags (default), 1 = and Interrupt Vector mode, with Steering Tags of CPUs, 8 or 16 bits wide, 2 = and Device Specific mode, in which a device may send any Steering Tag, 3 = and literal Steering Tags. A Steering Tag tells the target of a DMA which cache to use, so the user can compete with others for that cache; with a second device, whose dma-bufs are given tags freely, or with the Steering Tags in the MSI-X table, whose mmap stays allowed, the user can from 1 on also write values that were not checked.");

/**
 * struct vfio_pci_tph - TPH state of a device whose user has opted in
 * @pos: position of the TPH Requester capability
 * @command: what the user has set in PCI_COMMAND, of VFIO_PCI_TPH_COMMAND
 * @stale: the user's view has changed while the hardware could not be reached
 * @paused: TPH is paused while MSI-X vectors are made or freed
 * @in_msix: the device has its ST table in the MSI-X table
 * @nr_entries: entries of the ST table that the user can program, 0 without
 * @st: kept table: the tag that TPH_ST has put into each entry.  Twice, since 8
 *	and 16-bit tags never stand in for each other: an entry with a tag of
 *	the one kind is 0 in the table of the other one.  The table of the kind
 *	of requests that are enabled is what the hardware should have; an entry
 *	in the MSI-X table gets it as soon as it has a vector.
 */
struct vfio_pci_tph {
	u16	pos;
	u16	command;
	bool	stale;
	bool	paused;
	bool	in_msix;
	u16	nr_entries;
	u16	st[];
};

static u16 *vfio_pci_tph_table(struct vfio_pci_tph *tph, bool ext)
{
	return tph->st + (ext ? tph->nr_entries : 0);
}

static bool vfio_pci_tph_supported(struct vfio_pci_core_device *vdev)
{
	return !vdev->tph_unusable &&
	       pcie_tph_max_req_type(vdev->pdev) != PCI_TPH_REQ_DISABLE;
}

/* The capability register as a user who has opted in sees it */
static u32 vfio_pci_tph_cap(struct vfio_pci_core_device *vdev)
{
	u16 size = pcie_tph_get_st_table_size(vdev->pdev);
	u32 cap;

	cap = pcie_tph_st_modes(vdev->pdev);
	if (pcie_tph_max_req_type(vdev->pdev) == PCI_TPH_REQ_EXT_TPH)
		cap |= PCI_TPH_CAP_EXT_TPH;
	if (!size)
		cap &= ~PCI_TPH_CAP_ST_IV;
	cap &= vfio_pci_tph_grants[vfio_pci_tph_level];

	if (size && cap & VFIO_PCI_TPH_TABLE_MODES)
		cap |= pcie_tph_get_st_table_loc(vdev->pdev) |
		       FIELD_PREP(PCI_TPH_CAP_ST_MASK, size - 1);

	return cap;
}

/*
 * Does the user learn tags?  It takes a device that can send them without their
 * being programmed by the kernel, or the level that allows to program any.
 */
static bool vfio_pci_tph_resolves_st(struct vfio_pci_core_device *vdev)
{
	return vfio_pci_tph_level >= VFIO_PCI_TPH_LITERAL ||
	       vfio_pci_tph_cap(vdev) & PCI_TPH_CAP_ST_DS;
}

/* Entries of the ST table that a user can program, 0 without TPH_ST */
static u16 vfio_pci_tph_table_size(struct vfio_pci_core_device *vdev)
{
	u32 cap = vfio_pci_tph_cap(vdev);

	if (!(cap & PCI_TPH_CAP_LOC_MASK))
		return 0;

	return FIELD_GET(PCI_TPH_CAP_ST_MASK, cap) + 1;
}

/* Are Steering Tags of CPUs of any use to the user? */
static bool vfio_pci_tph_has_cpu(struct vfio_pci_core_device *vdev)
{
	return (vfio_pci_tph_table_size(vdev) ||
		vfio_pci_tph_resolves_st(vdev)) &&
	       pcie_tph_has_cpu_st(vdev->pdev);
}

static bool vfio_pci_tph_resolves_cpu(struct vfio_pci_core_device *vdev)
{
	return vfio_pci_tph_resolves_st(vdev) &&
	       pcie_tph_has_cpu_st(vdev->pdev);
}

/* A register of the capability as the user sees it */
static __le32 *vfio_pci_tph_vreg(struct vfio_pci_core_device *vdev, int reg)
{
	return (__le32 *)(vdev->vconfig + vdev->tph->pos + reg);
}

/**
 * vfio_pci_tph_virtualized - Has the user opted in to a virtual capability?
 * @vdev: device
 *
 * Context: Any.  The answer stays true until the device is closed.
 */
bool vfio_pci_tph_virtualized(struct vfio_pci_core_device *vdev)
{
	/* Pairs with vfio_pci_tph_opt_in(): vconfig is filled in before */
	return smp_load_acquire(&vdev->tph);
}

static bool vfio_pci_tph_is_ext(u32 ctrl)
{
	return FIELD_GET(PCI_TPH_CTRL_REQ_EN_MASK, ctrl) == PCI_TPH_REQ_EXT_TPH;
}

/* Control register as the user sees it */
static u32 vfio_pci_tph_vctrl(struct vfio_pci_core_device *vdev)
{
	return le32_to_cpu(*vfio_pci_tph_vreg(vdev, PCI_TPH_CTRL));
}

static void vfio_pci_tph_trace(struct vfio_pci_core_device *vdev, u32 old,
			       u32 new)
{
	if (old == new)
		return;

	if (new & PCI_TPH_CTRL_REQ_EN_MASK)
		trace_vfio_pci_tph_enable(vdev->pdev, old, new);
	else if (old & PCI_TPH_CTRL_REQ_EN_MASK)
		trace_vfio_pci_tph_disable(vdev->pdev, old, new);
}

/*
 * Let the user see @ctrl, and who can program any tag also those that go with it
 * in a table that is in the capability.  Every change comes by here, whoever has
 * caused it.
 */
static void vfio_pci_tph_show(struct vfio_pci_core_device *vdev, u32 ctrl)
{
	struct vfio_pci_tph *tph = vdev->tph;
	const u16 *table = vfio_pci_tph_table(tph, vfio_pci_tph_is_ext(ctrl));
	__le16 *vtable;
	u16 i;

	vfio_pci_tph_trace(vdev, vfio_pci_tph_vctrl(vdev), ctrl);
	*vfio_pci_tph_vreg(vdev, PCI_TPH_CTRL) = cpu_to_le32(ctrl);

	if (tph->in_msix || vfio_pci_tph_level < VFIO_PCI_TPH_LITERAL)
		return;

	vtable = (__le16 *)vfio_pci_tph_vreg(vdev, PCI_TPH_BASE_SIZEOF);
	for (i = 0; i < tph->nr_entries; i++)
		vtable[i] = cpu_to_le16(table[i]);
}

/* Control register as the PCI core has set it */
static u32 vfio_pci_tph_ctrl(struct vfio_pci_core_device *vdev)
{
	return FIELD_PREP(PCI_TPH_CTRL_MODE_SEL_MASK,
			  pcie_tph_mode(vdev->pdev)) |
	       FIELD_PREP(PCI_TPH_CTRL_REQ_EN_MASK,
			  pcie_tph_enabled_req_type(vdev->pdev));
}

/* Does the MSI-X table have entries that the user programs? */
static bool vfio_pci_tph_has_msix_tags(struct vfio_pci_core_device *vdev)
{
	return vdev->tph && vdev->tph->in_msix && vdev->tph->nr_entries;
}

/* Keep resets out, and let the MSI-X table be reached if that is needed */
static u16 vfio_pci_tph_hw_begin(struct vfio_pci_core_device *vdev, bool msix)
{
	lockdep_assert_held_write(&vdev->memory_lock);

	if (msix)
		return vfio_pci_memory_enable(vdev);

	pci_cfg_access_lock(vdev->pdev);
	return 0;
}

static void vfio_pci_tph_hw_end(struct vfio_pci_core_device *vdev, bool msix,
				u16 cmd)
{
	if (msix)
		vfio_pci_memory_restore(vdev, cmd);
	else
		pci_cfg_access_unlock(vdev->pdev);
}

/*
 * Is the device cut off after an error?  If the recovery has failed the channel
 * stays frozen for the PCI core, but the user can reset the device and go on.
 */
static bool vfio_pci_tph_offline(struct vfio_pci_core_device *vdev)
{
	switch (vdev->pdev->error_state) {
	case pci_channel_io_normal:
		return false;
	case pci_channel_io_frozen:
		return READ_ONCE(vdev->tph_frozen);
	default:
		return true;
	}
}

/*
 * Are the BARs lost, by a reset that nobody has announced, so that there is no
 * MSI-X table until the user writes PCI_COMMAND?  With memory decode on they are
 * not, and of a device that does not answer nobody knows.  Config access is
 * locked.
 */
static bool vfio_pci_tph_bars_lost(struct vfio_pci_core_device *vdev)
{
	unsigned int i;
	u32 bar;

	if (vdev->tph->command & PCI_COMMAND_MEMORY)
		return false;

	for (i = 0; i < PCI_STD_NUM_BARS; i++) {
		if (vdev->rbar[i] &&
		    !pci_read_config_dword(vdev->pdev,
					   PCI_BASE_ADDRESS_0 + i * sizeof(bar),
					   &bar) &&
		    !PCI_POSSIBLE_ERROR(bar) && vdev->rbar[i] != bar)
			return true;
	}

	return false;
}

/* Can the hardware be changed now, and the MSI-X table if that is needed? */
static bool vfio_pci_tph_reachable(struct vfio_pci_core_device *vdev, bool msix)
{
	bool lost;

	if (vdev->pdev->current_state != PCI_D0)
		return false;

	if (!msix)
		return true;

	pci_cfg_access_lock(vdev->pdev);
	lost = vfio_pci_tph_bars_lost(vdev);
	pci_cfg_access_unlock(vdev->pdev);

	return !lost;
}

/*
 * Write tags to the ST table, zeros if @tags is NULL, with TPH paused or off.  An
 * entry in the MSI-X table that has no vector counts as done: it gets its tag
 * when the vector is made.
 *
 * Return: as write(2), the number of entries done, or the errno of the first.
 */
static int vfio_pci_tph_write_entries(struct vfio_pci_core_device *vdev,
				      unsigned int start, unsigned int count,
				      const u16 *tags)
{
	unsigned int done = 0;
	int ret;

	while (done < count) {
		ret = pcie_tph_set_st_entries(vdev->pdev, start + done,
					      count - done,
					      tags ? tags + done : NULL);
		if (ret == -ENXIO)
			ret = 1;
		if (ret < 0)
			return done ?: ret;
		done += ret;

		/* In the capability fewer than asked for means an error */
		if (!vdev->tph->in_msix)
			break;
	}

	return done;
}

/*
 * Turn TPH off after an error.  What is off has the 8-bit tags, so try to have
 * them in the table, too; at the latest they come when TPH is turned on.
 */
static void vfio_pci_tph_fail(struct vfio_pci_core_device *vdev)
{
	struct vfio_pci_tph *tph = vdev->tph;

	if (!pcie_tph_set_ctrl(vdev->pdev, pcie_tph_mode(vdev->pdev),
			       PCI_TPH_REQ_DISABLE))
		vfio_pci_tph_write_entries(vdev, 0, tph->nr_entries,
					   vfio_pci_tph_table(tph, false));
}

/*
 * Bring the hardware to @ctrl, and its ST table to what is kept for it: disable,
 * change, enable.
 */
static int vfio_pci_tph_apply(struct vfio_pci_core_device *vdev, u32 ctrl)
{
	u8 mode = FIELD_GET(PCI_TPH_CTRL_MODE_SEL_MASK, ctrl);
	u8 req_type = FIELD_GET(PCI_TPH_CTRL_REQ_EN_MASK, ctrl);
	bool msix = vfio_pci_tph_has_msix_tags(vdev);
	struct vfio_pci_tph *tph = vdev->tph;
	struct pci_dev *pdev = vdev->pdev;
	const u16 *table;
	int ret;
	u16 cmd;

	cmd = vfio_pci_tph_hw_begin(vdev, msix);
	ret = pcie_tph_pause(pdev);
	/* Vectors that were freed meanwhile have left their tags */
	if (!ret && msix && tph->stale)
		ret = pcie_tph_clear_unused(pdev);
	if (!ret)
		ret = pcie_tph_set_ctrl(pdev, mode, req_type);

	/* A switch has been told to block TLP Prefixes since that was accepted */
	if (ret == -EOPNOTSUPP) {
		req_type = pcie_tph_enabled_req_type(pdev);
		ret = pcie_tph_set_ctrl(pdev, mode, req_type);
	}

	table = vfio_pci_tph_table(tph, req_type == PCI_TPH_REQ_EXT_TPH);
	if (!ret && vfio_pci_tph_write_entries(vdev, 0, tph->nr_entries,
					       table) != tph->nr_entries)
		ret = -EIO;

	if (ret)
		vfio_pci_tph_fail(vdev);
	if (pcie_tph_resume(pdev)) {
		vfio_pci_tph_fail(vdev);
		ret = -EIO;
	}
	vfio_pci_tph_hw_end(vdev, msix, cmd);

	vfio_pci_tph_show(vdev, vfio_pci_tph_ctrl(vdev));
	return ret;
}

/**
 * vfio_pci_tph_d0 - If in D0, catch up with what the user set while out of it
 * @vdev: device
 *
 * Not only vfio brings a device to D0, a reset by sysfs and system resume do too,
 * so vfio_pci_tph_sync() looks at that as well.  The same goes for a table in the
 * MSI-X table while the BARs are lost.
 *
 * Context: May sleep.  memory_lock is held for writing if the user has opted
 * in.
 */
void vfio_pci_tph_d0(struct vfio_pci_core_device *vdev)
{
	struct vfio_pci_tph *tph = vdev->tph;

	if (!tph || !tph->stale ||
	    !vfio_pci_tph_reachable(vdev, vfio_pci_tph_has_msix_tags(vdev)))
		return;

	vfio_pci_tph_apply(vdev, vfio_pci_tph_vctrl(vdev));
	tph->stale = false;
}

/* May the user choose this for TPH Requester Enable? */
static bool vfio_pci_tph_req_type_valid(struct vfio_pci_core_device *vdev,
					u32 cap, u8 req_type)
{
	switch (req_type) {
	case PCI_TPH_REQ_DISABLE:
	case PCI_TPH_REQ_TPH_ONLY:
		return true;
	case PCI_TPH_REQ_EXT_TPH:
		return cap & PCI_TPH_CAP_EXT_TPH &&
		       pcie_tph_path(vdev->pdev, NULL) == req_type;
	default:
		return false;
	}
}

/* The register after a write of @val, of which each field is judged by itself */
static u32 vfio_pci_tph_accept(struct vfio_pci_core_device *vdev, u32 old,
			       u32 val)
{
	u32 cap = le32_to_cpu(*vfio_pci_tph_vreg(vdev, PCI_TPH_CAP));
	u8 mode = FIELD_GET(PCI_TPH_CTRL_MODE_SEL_MASK, val);
	u8 req_type = FIELD_GET(PCI_TPH_CTRL_REQ_EN_MASK, val);
	u32 new = old;

	if (cap & BIT(mode) & (PCI_TPH_CAP_ST_NS | PCI_TPH_CAP_ST_IV |
			       PCI_TPH_CAP_ST_DS))
		FIELD_MODIFY(PCI_TPH_CTRL_MODE_SEL_MASK, &new, mode);

	if (vfio_pci_tph_req_type_valid(vdev, cap, req_type))
		FIELD_MODIFY(PCI_TPH_CTRL_REQ_EN_MASK, &new, req_type);

	return new;
}

static int vfio_pci_tph_set_ctrl(struct vfio_pci_core_device *vdev, u32 old,
				 u32 new)
{
	struct pci_dev *pdev = vdev->pdev;
	int ret;

	if (vfio_pci_tph_offline(vdev))
		return -EIO;

	if (!vfio_pci_tph_reachable(vdev, vfio_pci_tph_has_msix_tags(vdev))) {
		vfio_pci_tph_show(vdev, new);
		vdev->tph->stale = true;
		return 0;
	}

	/*
	 * Tags of the other kind come in, and before TPH is turned on it is not
	 * certain that those that are kept are still there.
	 */
	if (vfio_pci_tph_is_ext(old) != vfio_pci_tph_is_ext(new) ||
	    (!(old & PCI_TPH_CTRL_REQ_EN_MASK) &&
	     new & PCI_TPH_CTRL_REQ_EN_MASK))
		return vfio_pci_tph_apply(vdev, new);

	pci_cfg_access_lock(pdev);
	ret = pcie_tph_set_ctrl(pdev,
				FIELD_GET(PCI_TPH_CTRL_MODE_SEL_MASK, new),
				FIELD_GET(PCI_TPH_CTRL_REQ_EN_MASK, new));
	pci_cfg_access_unlock(pdev);

	/* Off now: apply that, for the tags that go with it */
	if (ret)
		vfio_pci_tph_apply(vdev, vfio_pci_tph_ctrl(vdev));
	else
		vfio_pci_tph_show(vdev, vfio_pci_tph_ctrl(vdev));

	return ret;
}

static void vfio_pci_tph_set_command(struct vfio_pci_tph *tph, u16 cmd)
{
	tph->command = PCI_POSSIBLE_ERROR(cmd) ? 0 : cmd & VFIO_PCI_TPH_COMMAND;
}

/**
 * vfio_pci_tph_command - The user has written PCI_COMMAND, or it was restored
 * @vdev: device
 *
 * Context: May sleep.  memory_lock is held for writing if the user has opted
 * in.
 */
void vfio_pci_tph_command(struct vfio_pci_core_device *vdev)
{
	u16 cmd;

	if (!vdev->tph)
		return;

	if (pci_user_read_config_word(vdev->pdev, PCI_COMMAND, &cmd))
		PCI_SET_ERROR_RESPONSE(&cmd);

	vfio_pci_tph_set_command(vdev->tph, cmd);
}

/*
 * Has the device been reset by somebody who neither tells nor restores it: a
 * reset of its PF, the recovery from an error of another function, or the device
 * itself?  @cmd is its PCI_COMMAND.  Others than a reset clear bits in it, too, as
 * the VGA arbiter those for decoding, but not all that the user needs for DMA.
 * Where there is nothing to lose in it, the control register tells.  Config
 * access is locked.
 */
static bool vfio_pci_tph_was_reset(struct vfio_pci_core_device *vdev, u16 cmd)
{
	struct vfio_pci_tph *tph = vdev->tph;
	struct pci_dev *pdev = vdev->pdev;
	u32 ctrl;

	if (pdev->current_state != PCI_D0 || vfio_pci_tph_offline(vdev))
		return false;

	if (tph->command)
		return !(tph->command & cmd);

	return vfio_pci_tph_ctrl(vdev) &&
	       !pci_read_config_dword(pdev, tph->pos + PCI_TPH_CTRL, &ctrl) &&
	       vfio_pci_tph_ctrl(vdev) & ~ctrl;
}

/* The state after a reset.  The opt-in stays. */
static void vfio_pci_tph_forget(struct vfio_pci_core_device *vdev)
{
	struct vfio_pci_tph *tph = vdev->tph;

	WRITE_ONCE(vdev->tph_lost, false);
	memset(tph->st, 0, 2 * tph->nr_entries * sizeof(*tph->st));
	tph->stale = false;
	vfio_pci_tph_show(vdev, 0);
}

/* If a reset has cleared TPH, and nobody has said so, take that over */
static bool __vfio_pci_tph_notice_reset(struct vfio_pci_core_device *vdev,
					u16 cmd)
{
	if (!READ_ONCE(vdev->tph_lost) && !vfio_pci_tph_was_reset(vdev, cmd))
		return false;

	vfio_pci_tph_forget(vdev);
	pcie_tph_forget(vdev->pdev);
	vfio_pci_tph_set_command(vdev->tph, cmd);
	return true;
}

static bool vfio_pci_tph_notice_reset(struct vfio_pci_core_device *vdev)
{
	bool noticed;
	u16 cmd;

	/* The usual case, for which resets need not be kept out */
	if (!READ_ONCE(vdev->tph_lost) &&
	    !pci_user_read_config_word(vdev->pdev, PCI_COMMAND, &cmd) &&
	    vdev->tph->command & cmd)
		return false;

	pci_cfg_access_lock(vdev->pdev);
	if (pci_read_config_word(vdev->pdev, PCI_COMMAND, &cmd))
		PCI_SET_ERROR_RESPONSE(&cmd);
	noticed = __vfio_pci_tph_notice_reset(vdev, cmd);
	pci_cfg_access_unlock(vdev->pdev);

	return noticed;
}

/**
 * vfio_pci_tph_sync - Take over what has happened to the device
 * @vdev: device
 *
 * To be called before the state is looked at or changed, and before the user
 * writes PCI_COMMAND.
 *
 * Context: May sleep.  memory_lock is held for writing.
 */
void vfio_pci_tph_sync(struct vfio_pci_core_device *vdev)
{
	lockdep_assert_held_write(&vdev->memory_lock);

	if (!vdev->tph)
		return;

	vfio_pci_tph_notice_reset(vdev);
	vfio_pci_tph_d0(vdev);

	/* The PCI core turns TPH off if it fails to restore it */
	if (!vdev->tph->stale)
		vfio_pci_tph_show(vdev, vfio_pci_tph_ctrl(vdev));
}

/**
 * vfio_pci_tph_refresh - The user is about to read the capability
 * @vdev: device, whose user has opted in
 *
 * Context: May sleep.  Takes memory_lock.
 */
void vfio_pci_tph_refresh(struct vfio_pci_core_device *vdev)
{
	guard(rwsem_write)(&vdev->memory_lock);

	vfio_pci_tph_sync(vdev);
}

/**
 * vfio_pci_tph_error - The device is cut off after a fatal error
 * @vdev: device
 *
 * A reset follows that nobody announces, and after it nothing is restored.
 *
 * Context: Any.
 */
void vfio_pci_tph_error(struct vfio_pci_core_device *vdev)
{
	WRITE_ONCE(vdev->tph_frozen, true);
	WRITE_ONCE(vdev->tph_lost, true);
}

/**
 * vfio_pci_tph_write_ctrl - The user writes the TPH Requester Control register
 * @vdev: device
 * @byte: first byte of the register that is written, 0..3
 * @count: bytes
 * @val: what is written to them
 *
 * Each field is judged by itself: ST Mode Select takes the modes that the
 * capability register shows, TPH Requester Enable takes "off", "TPH requests"
 * and, where Extended TPH is shown and no switch on the path blocks TLP Prefixes,
 * "TPH and Extended TPH requests".  A field that is given another value, or not
 * written at all, keeps the one that it has.
 *
 * Context: May sleep.  Takes memory_lock.
 * Return: @count, or -EIO if the hardware did not take it, which leaves TPH
 * off, or if the device is offline after an error, which changes nothing.
 */
int vfio_pci_tph_write_ctrl(struct vfio_pci_core_device *vdev,
			    unsigned int byte, int count, u32 val)
{
	u32 mask = GENMASK((byte + count) * BITS_PER_BYTE - 1,
			   byte * BITS_PER_BYTE);
	u32 old, new;

	guard(rwsem_write)(&vdev->memory_lock);

	vfio_pci_tph_sync(vdev);

	old = vfio_pci_tph_vctrl(vdev);
	val = (old & ~mask) | ((val << (byte * BITS_PER_BYTE)) & mask);
	new = vfio_pci_tph_accept(vdev, old, val);
	if (new == old)
		return count;

	return vfio_pci_tph_set_ctrl(vdev, old, new) == -EIO ? -EIO : count;
}

static void vfio_pci_tph_keep(struct vfio_pci_tph *tph, bool ext,
			      unsigned int start, unsigned int count,
			      const u16 *tags)
{
	u16 *st = vfio_pci_tph_table(tph, ext) + start;
	size_t size = count * sizeof(*st);

	memset(vfio_pci_tph_table(tph, !ext) + start, 0, size);
	if (tags)
		memcpy(st, tags, size);
	else
		memset(st, 0, size);
}

/*
 * Program a batch, zeros if @tags is NULL, in one quiescent window.
 *
 * Return: as write(2)
 */
static int vfio_pci_tph_program(struct vfio_pci_core_device *vdev, bool ext,
				unsigned int start, unsigned int count,
				const u16 *tags)
{
	struct vfio_pci_tph *tph = vdev->tph;
	struct pci_dev *pdev = vdev->pdev;
	unsigned int done;
	const u16 *table;
	u32 ctrl;
	int ret;
	u16 cmd;

	if (vfio_pci_tph_offline(vdev))
		return -EIO;

	vfio_pci_tph_sync(vdev);

	ctrl = vfio_pci_tph_vctrl(vdev);
	table = vfio_pci_tph_table(tph, vfio_pci_tph_is_ext(ctrl));
	if (!vfio_pci_tph_reachable(vdev, tph->in_msix)) {
		vfio_pci_tph_keep(tph, ext, start, count, tags);
		vfio_pci_tph_show(vdev, ctrl);
		tph->stale = true;
		return count;
	}

	cmd = vfio_pci_tph_hw_begin(vdev, tph->in_msix);
	ret = pcie_tph_pause(pdev);
	if (!ret) {
		/* Tags of the other kind wait until it is enabled */
		ret = vfio_pci_tph_write_entries(vdev, start, count,
						 ext == vfio_pci_tph_is_ext(ctrl) ?
						 tags : NULL);
		done = max(ret, 0);
		vfio_pci_tph_keep(tph, ext, start, done, tags);

		/* Those that failed may still be cached for vectors of MSI-X */
		if (tph->in_msix && done < count)
			vfio_pci_tph_write_entries(vdev, start + done,
						   count - done,
						   table + start + done);
		if (pcie_tph_resume(pdev)) {
			vfio_pci_tph_fail(vdev);
			ret = -EIO;
		}
	}
	vfio_pci_tph_hw_end(vdev, tph->in_msix, cmd);

	vfio_pci_tph_show(vdev, vfio_pci_tph_ctrl(vdev));
	return ret;
}

/**
 * vfio_pci_tph_msix_begin - MSI-X vectors are about to be made
 * @vdev: device
 * @cmd: PCI_COMMAND as it was before memory was enabled for this
 *
 * Making and freeing vectors clears Steering Tags in the MSI-X table, which
 * must not happen while the device may send requests with them (PCIe r6.x,
 * sec 6.17.3).
 *
 * Context: May sleep.  memory_lock is held for writing, memory is enabled.
 * Return: 0, or -EIO if TPH could not be paused.
 */
int vfio_pci_tph_msix_begin(struct vfio_pci_core_device *vdev, u16 cmd)
{
	int ret;

	lockdep_assert_held_write(&vdev->memory_lock);

	if (!vfio_pci_tph_has_msix_tags(vdev) ||
	    vdev->pdev->current_state != PCI_D0)
		return 0;

	/* After a reset there is nothing to apply again */
	__vfio_pci_tph_notice_reset(vdev, cmd);

	if (vfio_pci_tph_bars_lost(vdev))
		return 0;

	ret = pcie_tph_pause(vdev->pdev);
	vdev->tph->paused = !ret;
	return ret;
}

/**
 * vfio_pci_tph_msix_free - MSI-X vectors are about to be freed, come what may
 * @vdev: device
 * @cmd: PCI_COMMAND as it was before memory was enabled for this
 *
 * As vfio_pci_tph_msix_begin(), but if TPH cannot be paused it is turned off, and
 * the user sees that.
 *
 * Context: As vfio_pci_tph_msix_begin().  vfio_pci_tph_msix_end() follows.
 */
void vfio_pci_tph_msix_free(struct vfio_pci_core_device *vdev, u16 cmd)
{
	if (!vfio_pci_tph_msix_begin(vdev, cmd))
		return;

	vfio_pci_tph_fail(vdev);
	vfio_pci_tph_show(vdev, vfio_pci_tph_ctrl(vdev));
}

/**
 * vfio_pci_tph_msix_end - MSI-X vectors have been made or freed
 * @vdev: device
 * @start: first vector
 * @count: number of vectors
 *
 * Give the new ones the Steering Tags that are kept for them, and let TPH go
 * on.  If one of this fails TPH is off, and the user sees that.
 *
 * Context: As vfio_pci_tph_msix_begin(), after it has returned 0.
 * Return: 0, or -EIO if TPH was on and is off now.
 */
int vfio_pci_tph_msix_end(struct vfio_pci_core_device *vdev,
			  unsigned int start, unsigned int count)
{
	struct vfio_pci_tph *tph = vdev->tph;
	struct pci_dev *pdev = vdev->pdev;
	bool on = pcie_tph_enabled_req_type(pdev) != PCI_TPH_REQ_DISABLE;
	const u16 *table;

	lockdep_assert_held_write(&vdev->memory_lock);

	if (!vfio_pci_tph_has_msix_tags(vdev))
		return 0;

	/* Not reachable */
	if (!tph->paused) {
		tph->stale = true;
		return 0;
	}

	tph->paused = false;
	start = min(start, tph->nr_entries);
	count = min(count, tph->nr_entries - start);
	table = vfio_pci_tph_table(tph, vfio_pci_tph_is_ext(vfio_pci_tph_ctrl(vdev)));
	if (vfio_pci_tph_write_entries(vdev, start, count,
				       table + start) != count)
		vfio_pci_tph_fail(vdev);
	if (pcie_tph_resume(pdev))
		vfio_pci_tph_fail(vdev);

	/* What waits for D0 is still to come */
	if (!tph->stale)
		vfio_pci_tph_show(vdev, vfio_pci_tph_ctrl(vdev));

	return on && pcie_tph_enabled_req_type(pdev) == PCI_TPH_REQ_DISABLE ?
	       -EIO : 0;
}

/**
 * vfio_pci_tph_off - Turn TPH off and clear the ST table
 * @vdev: device
 *
 * Context: May sleep.  memory_lock is held for writing if the user has opted
 * in.
 */
void vfio_pci_tph_off(struct vfio_pci_core_device *vdev)
{
	u16 cmd;

	if (!vdev->tph || vfio_pci_tph_notice_reset(vdev))
		return;

	/* No access to the MSI-X table then: the zeros follow later */
	if (!vfio_pci_tph_reachable(vdev, vdev->tph->in_msix)) {
		pci_cfg_access_lock(vdev->pdev);
		pcie_tph_forget(vdev->pdev);
		pci_cfg_access_unlock(vdev->pdev);
		vfio_pci_tph_forget(vdev);
		vdev->tph->stale = true;
		return;
	}

	cmd = vfio_pci_tph_hw_begin(vdev, vdev->tph->in_msix);
	pcie_tph_clear(vdev->pdev);
	vfio_pci_tph_hw_end(vdev, vdev->tph->in_msix, cmd);

	vfio_pci_tph_forget(vdev);
}

/**
 * vfio_pci_tph_reset_begin - The user of the device resets it
 * @vdev: device
 *
 * The PCI core restores TPH after a reset, which is right for one that the user
 * did not ask for.  Who did asks for the state after reset, and expects TPH to
 * be off and the ST table to be cleared (PCIe r6.x, sec 6.6.2 and 7.9.13).
 * Who has not opted in has nothing to be cleared, but can do so after the reset.
 *
 * Context: memory_lock is held for writing.  The reset follows in the same
 * task, then vfio_pci_tph_reset_end().
 */
void vfio_pci_tph_reset_begin(struct vfio_pci_core_device *vdev)
{
	lockdep_assert_held_write(&vdev->memory_lock);

	pcie_tph_clear_on_restore(vdev->pdev);
}

/**
 * vfio_pci_tph_reset_end - The reset is over, or was refused
 * @vdev: device
 *
 * Context: As vfio_pci_tph_reset_begin().
 * Return: true if TPH has been cleared; false if the device was not touched, and
 * nothing has changed.
 */
bool vfio_pci_tph_reset_end(struct vfio_pci_core_device *vdev)
{
	lockdep_assert_held_write(&vdev->memory_lock);

	if (!pcie_tph_clear_on_restore_done(vdev->pdev))
		return false;

	WRITE_ONCE(vdev->tph_frozen, false);
	if (vdev->tph)
		vfio_pci_tph_forget(vdev);
	return true;
}

static int vfio_pci_tph_clear(struct vfio_pci_core_device *vdev)
{
	int ret;

	pci_cfg_access_lock(vdev->pdev);
	ret = pcie_tph_clear(vdev->pdev);
	pci_cfg_access_unlock(vdev->pdev);

	/* Without TPH there is nothing to clear */
	return ret == -EOPNOTSUPP ? 0 : ret;
}

/* Does the device itself say that TPH is off, whatever has failed? */
static bool vfio_pci_tph_is_off(struct pci_dev *pdev)
{
	u32 ctrl;

	return !pci_user_read_config_dword(pdev, pdev->tph_cap + PCI_TPH_CTRL,
					   &ctrl) &&
	       !PCI_POSSIBLE_ERROR(ctrl) &&
	       !(ctrl & PCI_TPH_CTRL_REQ_EN_MASK);
}

/**
 * vfio_pci_tph_open_begin - A user opens the device, the reset is still to come
 * @vdev: device
 *
 * What a host driver or firmware has left is not for the user.
 *
 * Context: May sleep.  The device is in D0, with memory decode on, and has no
 * interrupt vectors.
 */
void vfio_pci_tph_open_begin(struct vfio_pci_core_device *vdev)
{
	WRITE_ONCE(vdev->tph_frozen, false);
	vdev->tph_unusable = vfio_pci_tph_clear(vdev);
}

/**
 * vfio_pci_tph_open_end - A user opens the device, it has been reset
 * @vdev: device
 *
 * A device that did not let itself be cleared before the reset may do so now.
 * If not, it is opened without TPH, unless TPH may still be on.
 *
 * Which requests with hints the device completes does not change, and is found
 * out here, where the device answers and nobody resets it.
 *
 * Context: As vfio_pci_tph_open_begin().
 * Return: 0, or -EIO if TPH may still be on.
 */
int vfio_pci_tph_open_end(struct vfio_pci_core_device *vdev)
{
	int ret;

	pci_cfg_access_lock(vdev->pdev);
	vdev->tph_completer = pcie_tph_completer_type(vdev->pdev);
	pci_cfg_access_unlock(vdev->pdev);

	if (!vdev->tph_unusable)
		return 0;

	ret = vfio_pci_tph_clear(vdev);
	vdev->tph_unusable = ret;
	if (!ret)
		return 0;

	if (!vfio_pci_tph_is_off(vdev->pdev))
		return -EIO;

	pci_warn(vdev->pdev, "can't clear Steering Tags (%d), no TPH for this user\n",
		 ret);
	return 0;
}

/**
 * vfio_pci_tph_close - The user closes the device
 * @vdev: device
 *
 * Context: May sleep.  memory_lock is held for writing, the device is in D0.
 */
void vfio_pci_tph_close(struct vfio_pci_core_device *vdev)
{
	lockdep_assert_held_write(&vdev->memory_lock);

	vfio_pci_tph_off(vdev);
	kfree(vdev->tph);
	vdev->tph = NULL;
}

static int vfio_pci_tph_opt_in(struct vfio_pci_core_device *vdev)
{
	u16 nr_entries = vfio_pci_tph_table_size(vdev);
	struct vfio_pci_tph *tph __free(kfree) =
		kzalloc_flex(*tph, st, 2 * nr_entries, GFP_KERNEL_ACCOUNT);
	struct pci_dev *pdev = vdev->pdev;
	u16 i;

	if (!tph)
		return -ENOMEM;

	tph->pos = pdev->tph_cap;
	tph->in_msix = pcie_tph_get_st_table_loc(pdev) == PCI_TPH_LOC_MSIX;
	tph->nr_entries = nr_entries;

	guard(rwsem_write)(&vdev->memory_lock);

	if (vdev->tph)
		return 0;

	/* Nothing of the device's but the header; tags are not for the user */
	for (i = tph->pos + PCI_TPH_CAP; i < pdev->cfg_size &&
	     vdev->pci_config_map[i] == PCI_EXT_CAP_ID_TPH; i++)
		vdev->vconfig[i] = 0;

	*(__le32 *)(vdev->vconfig + tph->pos + PCI_TPH_CAP) =
		cpu_to_le32(vfio_pci_tph_cap(vdev));

	/* Pairs with vfio_pci_tph_virtualized() */
	smp_store_release(&vdev->tph, no_free_ptr(tph));
	vfio_pci_tph_forget(vdev);
	vfio_pci_tph_command(vdev);
	return 0;
}

int vfio_pci_core_feature_tph(struct vfio_pci_core_device *vdev, u32 flags,
			      struct vfio_device_feature_tph __user *arg,
			      size_t argsz)
{
	struct vfio_device_feature_tph tph = {};
	int ret;

	if (!vfio_pci_tph_supported(vdev))
		return -EOPNOTSUPP;

	ret = vfio_check_feature(flags, argsz, VFIO_DEVICE_FEATURE_GET |
				 VFIO_DEVICE_FEATURE_SET, sizeof(tph));
	if (ret != 1)
		return ret;

	if (flags & VFIO_DEVICE_FEATURE_GET) {
		if (vfio_pci_tph_has_cpu(vdev))
			tph.flags |= VFIO_DEVICE_TPH_CAP_CPU;
		if (vfio_pci_tph_table_size(vdev) &&
		    vfio_pci_tph_level >= VFIO_PCI_TPH_LITERAL)
			tph.flags |= VFIO_DEVICE_TPH_CAP_LITERAL;

		return copy_to_user(arg, &tph, sizeof(tph)) ? -EFAULT : 0;
	}

	if (copy_from_user(&tph, arg, sizeof(tph)))
		return -EFAULT;

	if (tph.flags)
		return -EINVAL;

	return vfio_pci_tph_opt_in(vdev);
}

static int vfio_pci_tph_cpu_tag(struct vfio_pci_core_device *vdev, u32 flags,
				u32 cpu, u16 *tag)
{
	enum tph_mem_type mem_type = flags & VFIO_DEVICE_TPH_SRC_CPU_PERSISTENT ?
				     TPH_MEM_TYPE_PM : TPH_MEM_TYPE_VM;
	u8 req_type = flags & VFIO_DEVICE_TPH_EXTENDED ? PCI_TPH_REQ_EXT_TPH :
							 PCI_TPH_REQ_TPH_ONLY;
	struct pcie_tph_cpu_st st;
	int ret;

	if (cpu >= nr_cpu_ids || !cpu_possible(cpu))
		return -EINVAL;

	ret = pcie_tph_check_cpu(cpu);
	if (ret)
		return ret;

	ret = pcie_tph_get_cpu_st_all(vdev->pdev, cpu, &st);
	if (ret)
		return ret;

	*tag = pcie_tph_cpu_st_tag(&st, mem_type, req_type);
	return 0;
}

DEFINE_FREE(vfio_pci_tph_held, struct dma_buf_attachment *,
	    vfio_pci_dma_buf_put_hints(_T))

/*
 * Find out what belongs to a source.  A dma-buf stays attached, in @held, so that
 * this stays so.  No lock is held.
 */
static int vfio_pci_tph_source(struct vfio_pci_core_device *vdev, u32 flags,
			       u32 src, struct dma_buf_attachment **held,
			       struct vfio_pci_tph_hint *hint)
{
	bool ext = flags & VFIO_DEVICE_TPH_EXTENDED;
	int ret = 0;

	/* To a dma-buf of its own the user can give any tag, as a literal one */
	if (flags & VFIO_DEVICE_TPH_SRC_DMABUF)
		return vfio_pci_dma_buf_get_hint(vdev, src,
				vfio_pci_tph_level >= VFIO_PCI_TPH_LITERAL,
				ext, held, hint);

	*hint = (struct vfio_pci_tph_hint) {};
	if (!(flags & VFIO_DEVICE_TPH_SRC_LITERAL))
		ret = vfio_pci_tph_cpu_tag(vdev, flags, src, &hint->st);
	else if (src > (ext ? U16_MAX : U8_MAX))
		ret = -EINVAL;
	else
		hint->st = src;

	if (hint->st)
		hint->valid = VFIO_DEVICE_TPH_VALID_ST;
	return ret;
}

/*
 * Turn the sources of a batch into tags.  No lock is held: firmware may take its
 * time.
 *
 * Return: as write(2), the number of sources resolved, or the errno of the
 * first.
 */
static int vfio_pci_tph_tags(struct vfio_pci_core_device *vdev, u32 flags,
			     const u32 *dests, unsigned int count,
			     struct dma_buf_attachment **held, u16 *tags)
{
	struct vfio_pci_tph_hint hint;
	unsigned int i, j;
	int ret;

	for (i = 0; i < count; i++) {
		/* Firmware is slow, ask it once; and attach once to a dma-buf */
		for (j = 0; dests[j] != dests[i]; j++)
			;

		if (j < i) {
			tags[i] = tags[j];
			continue;
		}

		if (fatal_signal_pending(current))
			return -EINTR;

		ret = vfio_pci_tph_source(vdev, flags, dests[i], held, &hint);
		if (!ret && !hint.st && flags & VFIO_DEVICE_TPH_REQUIRE_ST)
			ret = -ENOENT;
		/* Not the fault of this source */
		if (ret == -ENOMEM || ret == -EINTR)
			return ret;
		if (ret)
			return i ?: ret;
		tags[i] = hint.st;
	}

	return count;
}

/* Flags of TPH_ST and TPH_RESOLVE that @known are: one source, and modifiers */
static bool vfio_pci_tph_flags_valid(u32 flags, u32 known)
{
	return !(flags & ~known) &&
	       hweight32(flags & VFIO_DEVICE_TPH_SRC_MASK) == 1;
}

/* Can the user have what well-formed flags ask for? */
static int vfio_pci_tph_check_source(struct vfio_pci_core_device *vdev,
				     u32 flags)
{
	u32 cpu = VFIO_DEVICE_TPH_SRC_CPU_VOLATILE |
		  VFIO_DEVICE_TPH_SRC_CPU_PERSISTENT;

	if (!vfio_pci_tph_virtualized(vdev))
		return -EPERM;

	if (flags & VFIO_DEVICE_TPH_EXTENDED &&
	    (!(vfio_pci_tph_cap(vdev) & PCI_TPH_CAP_EXT_TPH) ||
	     pcie_tph_path(vdev->pdev, NULL) != PCI_TPH_REQ_EXT_TPH))
		return -EOPNOTSUPP;

	if (flags & VFIO_DEVICE_TPH_SRC_NONE)
		return 0;

	if (flags & VFIO_DEVICE_TPH_SRC_DMABUF &&
	    IS_ENABLED(CONFIG_VFIO_PCI_DMABUF))
		return 0;

	if (flags & VFIO_DEVICE_TPH_SRC_LITERAL &&
	    vfio_pci_tph_level >= VFIO_PCI_TPH_LITERAL)
		return 0;

	if (flags & cpu && pcie_tph_has_cpu_st(vdev->pdev))
		return 0;

	return -EOPNOTSUPP;
}

static int vfio_pci_tph_check_st(struct vfio_pci_core_device *vdev,
				 const struct vfio_device_feature_tph_st *st)
{
	u32 modifiers = VFIO_DEVICE_TPH_REQUIRE_ST | VFIO_DEVICE_TPH_EXTENDED;

	if (!vfio_pci_tph_flags_valid(st->flags,
				      VFIO_DEVICE_TPH_SRC_MASK | modifiers))
		return -EINVAL;

	if (st->flags & VFIO_DEVICE_TPH_SRC_NONE && st->flags & modifiers)
		return -EINVAL;

	if (!st->count ||
	    st->start + st->count > vfio_pci_tph_table_size(vdev))
		return -EINVAL;

	return vfio_pci_tph_check_source(vdev, st->flags);
}

static int vfio_pci_tph_st(struct vfio_pci_core_device *vdev,
			   const struct vfio_device_feature_tph_st *st)
{
	struct dma_buf_attachment *held __free(vfio_pci_tph_held) = NULL;
	u32 *dests __free(kvfree) = NULL;
	u16 *tags __free(kvfree) = NULL;
	int ret;

	if (!(st->flags & VFIO_DEVICE_TPH_SRC_NONE)) {
		dests = vmemdup_array_user(u64_to_user_ptr(st->dests),
					   st->count, sizeof(*dests));
		if (IS_ERR(dests))
			return PTR_ERR(dests);
	}

	ret = vfio_pci_tph_check_st(vdev, st);
	if (ret)
		return ret;

	ret = st->count;
	if (dests) {
		tags = kvcalloc(st->count, sizeof(*tags), GFP_KERNEL_ACCOUNT);
		if (!tags)
			return -ENOMEM;

		ret = vfio_pci_tph_tags(vdev, st->flags, dests, st->count,
					&held, tags);
		if (ret < 0)
			return ret;
	}

	guard(rwsem_write)(&vdev->memory_lock);
	return vfio_pci_tph_program(vdev, st->flags & VFIO_DEVICE_TPH_EXTENDED,
				    st->start, ret, tags);
}

int vfio_pci_core_feature_tph_st(struct vfio_pci_core_device *vdev, u32 flags,
				 struct vfio_device_feature_tph_st __user *arg,
				 size_t argsz)
{
	struct vfio_device_feature_tph_st st;
	int ret;

	if (!vfio_pci_tph_supported(vdev) || !vfio_pci_tph_table_size(vdev))
		return -EOPNOTSUPP;

	ret = vfio_check_feature(flags, argsz, VFIO_DEVICE_FEATURE_SET,
				 sizeof(st));
	if (ret != 1)
		return ret;

	if (copy_from_user(&st, arg, sizeof(st)))
		return -EFAULT;

	ret = vfio_pci_tph_st(vdev, &st);
	trace_vfio_pci_tph_program(vdev->pdev, &st, ret);
	return ret;
}

static int vfio_pci_tph_resolve(struct vfio_pci_core_device *vdev,
				struct vfio_device_feature_tph_resolve *resolve)
{
	struct dma_buf_attachment *held __free(vfio_pci_tph_held) = NULL;
	struct vfio_pci_tph_hint hint;
	int ret;

	if (!vfio_pci_tph_flags_valid(resolve->flags,
				      VFIO_DEVICE_TPH_SRC_DMABUF |
				      VFIO_DEVICE_TPH_SRC_CPU_VOLATILE |
				      VFIO_DEVICE_TPH_SRC_CPU_PERSISTENT |
				      VFIO_DEVICE_TPH_EXTENDED))
		return -EINVAL;

	ret = vfio_pci_tph_check_source(vdev, resolve->flags);
	if (ret)
		return ret;

	if (!(resolve->flags & VFIO_DEVICE_TPH_SRC_DMABUF) &&
	    !vfio_pci_tph_resolves_st(vdev))
		return -EOPNOTSUPP;

	ret = vfio_pci_tph_source(vdev, resolve->flags, resolve->src, &held,
				  &hint);
	if (ret)
		return ret;

	/* Without use for a tag of its own the device may still send the hint */
	if (!vfio_pci_tph_resolves_st(vdev)) {
		hint.valid &= ~VFIO_DEVICE_TPH_VALID_ST;
		hint.st = 0;
	}

	resolve->valid = hint.valid;
	resolve->ph = hint.ph;
	resolve->st = hint.st;
	return 0;
}

int vfio_pci_core_feature_tph_resolve(struct vfio_pci_core_device *vdev,
				      u32 flags,
				      struct vfio_device_feature_tph_resolve __user *arg,
				      size_t argsz)
{
	struct vfio_device_feature_tph_resolve resolve;
	int ret;

	if (!vfio_pci_tph_supported(vdev) ||
	    (!IS_ENABLED(CONFIG_VFIO_PCI_DMABUF) &&
	     !vfio_pci_tph_resolves_cpu(vdev)))
		return -EOPNOTSUPP;

	ret = vfio_check_feature(flags, argsz, VFIO_DEVICE_FEATURE_GET,
				 sizeof(resolve));
	if (ret != 1)
		return ret;

	if (copy_from_user(&resolve, arg, sizeof(resolve)))
		return -EFAULT;

	ret = vfio_pci_tph_resolve(vdev, &resolve);
	trace_vfio_pci_tph_resolve(vdev->pdev, &resolve, ret);
	if (ret)
		return ret;

	return copy_to_user(arg, &resolve, sizeof(resolve)) ? -EFAULT : 0;
}

/**
 * vfio_pci_tph_debugfs - Show path and state to a person
 * @vdev: device
 * @seq: file of debugfs
 *
 * Context: May sleep.  Takes memory_lock.
 */
void vfio_pci_tph_debugfs(struct vfio_pci_core_device *vdev,
			  struct seq_file *seq)
{
	static const char * const req_types[] = {
		[PCI_TPH_REQ_DISABLE]	= "none",
		[PCI_TPH_REQ_TPH_ONLY]	= "TPH",
		[PCI_TPH_REQ_EXT_TPH]	= "Extended TPH",
	};
	static const char * const modes[] = {
		[PCI_TPH_ST_NS_MODE]	= "No ST",
		[PCI_TPH_ST_IV_MODE]	= "Interrupt Vector",
		[PCI_TPH_ST_DS_MODE]	= "Device Specific",
	};
	struct device *parent = vdev->pdev->dev.parent;
	struct pcie_tph_limit limit;
	struct vfio_pci_tph *tph;
	u8 req_type;
	u32 ctrl;
	u16 i;

	/* The components above have to answer; a device in D3cold just does not */
	pm_runtime_get_sync(parent);
	req_type = pcie_tph_path(vdev->pdev, &limit);
	pm_runtime_put(parent);

	seq_printf(seq, "path: %s", req_types[req_type]);
	if (limit.pdev)
		seq_printf(seq, ", %s %s", pci_name(limit.pdev), limit.reason);
	seq_puts(seq, "\n");

	guard(rwsem_read)(&vdev->memory_lock);

	tph = vdev->tph;
	seq_printf(seq, "opted in: %s\n", str_yes_no(tph));
	if (!tph)
		return;

	seq_printf(seq, "capability: %#010x\n",
		   le32_to_cpu(*vfio_pci_tph_vreg(vdev, PCI_TPH_CAP)));
	ctrl = vfio_pci_tph_vctrl(vdev);
	seq_printf(seq, "control: %#010x, %s mode, requests: %s%s\n", ctrl,
		   modes[FIELD_GET(PCI_TPH_CTRL_MODE_SEL_MASK, ctrl)],
		   req_types[FIELD_GET(PCI_TPH_CTRL_REQ_EN_MASK, ctrl)],
		   tph->stale ? ", not in the device yet" : "");
	seq_printf(seq, "PCI core: %#010x\n", vfio_pci_tph_ctrl(vdev));

	for (i = 0; i < tph->nr_entries; i++) {
		u16 st = vfio_pci_tph_table(tph, false)[i];
		u16 xst = vfio_pci_tph_table(tph, true)[i];

		if (st)
			seq_printf(seq, "entry %u: %#04x\n", i, st);
		else if (xst)
			seq_printf(seq, "entry %u: %#06x, extended\n", i, xst);
	}
}
