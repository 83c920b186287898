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
 * released, except that the hardware follows at D0 what changes outside of it.
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
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "vfio_pci_priv.h"

enum vfio_pci_tph_level {
	VFIO_PCI_TPH_NO_ST,
	VFIO_PCI_TPH_IV,
};

/* ST modes that a level grants, as bits of the capability register */
static const u32 vfio_pci_tph_modes[] = {
	[VFIO_PCI_TPH_NO_ST]	= PCI_TPH_CAP_ST_NS,
	[VFIO_PCI_TPH_IV]	= PCI_TPH_CAP_ST_NS | PCI_TPH_CAP_ST_IV,
};

/* ST modes that use an ST table */
#define VFIO_PCI_TPH_TABLE_MODES	PCI_TPH_CAP_ST_IV

static unsigned int vfio_pci_tph_level = VFIO_PCI_TPH_NO_ST;

static int vfio_pci_tph_level_set(const char *val, const struct kernel_param *kp)
{
	return param_set_uint_minmax(val, kp, VFIO_PCI_TPH_NO_ST,
				     ARRAY_SIZE(vfio_pci_tph_modes) - 1);
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
MODULE_PARM_DESC(tph, "Use of PCIe TLP Processing Hints that is granted to users who opt in: 0 = processing hints without Steering Tags (default), 1 = and Interrupt Vector mode, with Steering Tags of CPUs. A Steering Tag tells the target of a DMA which cache to use, so the user can compete with others for that cache; with the Steering Tags in the MSI-X table, whose mmap stays allowed, the user can from 1 on also write values that were not checked.");

/**
 * struct vfio_pci_tph - TPH state of a device whose user has opted in
 * @pos: position of the TPH Requester capability
 * @stale: the user's view has changed while the hardware was out of D0
 * @in_msix: the ST table is in the MSI-X table
 * @nr_entries: entries of the ST table that the user can program, 0 without
 * @st: kept table: the tag that TPH_ST has put into each entry.  An entry in
 *	the MSI-X table gets it in hardware as soon as it has a vector.
 */
struct vfio_pci_tph {
	u16	pos;
	bool	stale;
	bool	in_msix;
	u16	nr_entries;
	u16	st[] __counted_by(nr_entries);
};

static bool vfio_pci_tph_supported(struct vfio_pci_core_device *vdev)
{
	return pcie_tph_max_req_type(vdev->pdev) != PCI_TPH_REQ_DISABLE;
}

/* The capability register as a user who has opted in sees it */
static u32 vfio_pci_tph_cap(struct vfio_pci_core_device *vdev)
{
	u16 size = pcie_tph_get_st_table_size(vdev->pdev);
	u32 cap;

	cap = pcie_tph_st_modes(vdev->pdev) &
	      vfio_pci_tph_modes[vfio_pci_tph_level];
	if (!size)
		cap &= ~PCI_TPH_CAP_ST_IV;

	if (cap & VFIO_PCI_TPH_TABLE_MODES)
		cap |= pcie_tph_get_st_table_loc(vdev->pdev) |
		       FIELD_PREP(PCI_TPH_CAP_ST_MASK, size - 1);

	return cap;
}

/* Entries of the ST table that a user can program, 0 without TPH_ST */
static u16 vfio_pci_tph_table_size(struct vfio_pci_core_device *vdev)
{
	u32 cap = vfio_pci_tph_cap(vdev);

	if (!(cap & PCI_TPH_CAP_LOC_MASK))
		return 0;

	return FIELD_GET(PCI_TPH_CAP_ST_MASK, cap) + 1;
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

/* Show the user what the PCI core has set */
static void vfio_pci_tph_show_ctrl(struct vfio_pci_core_device *vdev)
{
	u32 ctrl;

	ctrl = FIELD_PREP(PCI_TPH_CTRL_MODE_SEL_MASK,
			  pcie_tph_mode(vdev->pdev)) |
	       FIELD_PREP(PCI_TPH_CTRL_REQ_EN_MASK,
			  pcie_tph_enabled_req_type(vdev->pdev));
	*vfio_pci_tph_vreg(vdev, PCI_TPH_CTRL) = cpu_to_le32(ctrl);
}

/* Keep resets out, and let the MSI-X table be reached if the tags are there */
static u16 vfio_pci_tph_hw_begin(struct vfio_pci_core_device *vdev)
{
	lockdep_assert_held_write(&vdev->memory_lock);

	if (vdev->tph->in_msix)
		return vfio_pci_memory_enable(vdev);

	pci_cfg_access_lock(vdev->pdev);
	return 0;
}

static void vfio_pci_tph_hw_end(struct vfio_pci_core_device *vdev, u16 cmd)
{
	if (vdev->tph->in_msix)
		vfio_pci_memory_restore(vdev, cmd);
	else
		pci_cfg_access_unlock(vdev->pdev);
}

static int vfio_pci_tph_set_ctrl(struct vfio_pci_core_device *vdev, u32 ctrl)
{
	struct pci_dev *pdev = vdev->pdev;
	int ret;

	if (pci_channel_offline(pdev))
		return -EIO;

	if (pdev->current_state != PCI_D0) {
		*vfio_pci_tph_vreg(vdev, PCI_TPH_CTRL) = cpu_to_le32(ctrl);
		vdev->tph->stale = true;
		return 0;
	}

	pci_cfg_access_lock(pdev);
	ret = pcie_tph_set_ctrl(pdev,
				FIELD_GET(PCI_TPH_CTRL_MODE_SEL_MASK, ctrl),
				FIELD_GET(PCI_TPH_CTRL_REQ_EN_MASK, ctrl));
	pci_cfg_access_unlock(pdev);

	vfio_pci_tph_show_ctrl(vdev);
	return ret;
}

/*
 * Write tags to the ST table, with TPH paused or off.  An entry in the MSI-X
 * table that has no vector counts as done: it gets its tag when the vector is
 * made.
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
					      count - done, tags + done);
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

/**
 * vfio_pci_tph_d0 - If in D0, catch up with what the user set while out of it
 * @vdev: device
 *
 * Not only vfio brings a device to D0, a reset by sysfs and system resume do too,
 * so whoever is about to change the state calls this first.
 *
 * Context: May sleep.  memory_lock is held for writing if the user has opted
 * in.
 */
void vfio_pci_tph_d0(struct vfio_pci_core_device *vdev)
{
	struct vfio_pci_tph *tph = vdev->tph;
	struct pci_dev *pdev = vdev->pdev;
	u32 ctrl;
	u16 cmd;
	u8 mode;

	if (!tph || !tph->stale || pdev->current_state != PCI_D0)
		return;

	ctrl = le32_to_cpu(*vfio_pci_tph_vreg(vdev, PCI_TPH_CTRL));
	mode = FIELD_GET(PCI_TPH_CTRL_MODE_SEL_MASK, ctrl);

	cmd = vfio_pci_tph_hw_begin(vdev);
	if (!pcie_tph_set_ctrl(pdev, mode, PCI_TPH_REQ_DISABLE) &&
	    vfio_pci_tph_write_entries(vdev, 0, tph->nr_entries,
				       tph->st) == tph->nr_entries)
		pcie_tph_set_ctrl(pdev, mode,
				  FIELD_GET(PCI_TPH_CTRL_REQ_EN_MASK, ctrl));
	vfio_pci_tph_hw_end(vdev, cmd);

	tph->stale = false;
	vfio_pci_tph_show_ctrl(vdev);
}

/**
 * vfio_pci_tph_write_ctrl - The user writes the TPH Requester Control register
 * @vdev: device
 * @byte: first byte of the register that is written, 0..3
 * @count: bytes
 * @val: what is written to them
 *
 * Each field is judged by itself: ST Mode Select takes the modes that the
 * capability register shows, TPH Requester Enable takes "off" and "TPH
 * requests".  A field that is given another value, or not written at all,
 * keeps the one that it has.
 *
 * Context: May sleep.  Takes memory_lock.
 * Return: @count, or -EIO if the hardware did not take it, which leaves TPH
 * off.
 */
int vfio_pci_tph_write_ctrl(struct vfio_pci_core_device *vdev,
			    unsigned int byte, int count, u32 val)
{
	u32 mask = GENMASK((byte + count) * BITS_PER_BYTE - 1,
			   byte * BITS_PER_BYTE);
	u32 cap, old, new;
	u8 mode, req;
	int ret;

	guard(rwsem_write)(&vdev->memory_lock);

	vfio_pci_tph_d0(vdev);

	cap = le32_to_cpu(*vfio_pci_tph_vreg(vdev, PCI_TPH_CAP));
	old = le32_to_cpu(*vfio_pci_tph_vreg(vdev, PCI_TPH_CTRL));
	val = (old & ~mask) | ((val << (byte * BITS_PER_BYTE)) & mask);

	new = old;
	mode = FIELD_GET(PCI_TPH_CTRL_MODE_SEL_MASK, val);
	if (cap & BIT(mode) & vfio_pci_tph_modes[vfio_pci_tph_level])
		FIELD_MODIFY(PCI_TPH_CTRL_MODE_SEL_MASK, &new, mode);

	req = FIELD_GET(PCI_TPH_CTRL_REQ_EN_MASK, val);
	if (req == PCI_TPH_REQ_DISABLE || req == PCI_TPH_REQ_TPH_ONLY)
		FIELD_MODIFY(PCI_TPH_CTRL_REQ_EN_MASK, &new, req);

	if (new == old)
		return count;

	ret = vfio_pci_tph_set_ctrl(vdev, new);
	return ret == -EIO ? ret : count;
}

/* Program a batch, in one quiescent window.  Return: as write(2) */
static int vfio_pci_tph_program(struct vfio_pci_core_device *vdev,
				unsigned int start, unsigned int count,
				const u16 *tags)
{
	struct vfio_pci_tph *tph = vdev->tph;
	struct pci_dev *pdev = vdev->pdev;
	int ret;
	u16 cmd;

	if (pci_channel_offline(pdev))
		return -EIO;

	vfio_pci_tph_d0(vdev);

	if (pdev->current_state != PCI_D0) {
		memcpy(&tph->st[start], tags, count * sizeof(*tags));
		tph->stale = true;
		return count;
	}

	cmd = vfio_pci_tph_hw_begin(vdev);
	ret = pcie_tph_pause(pdev);
	if (!ret) {
		ret = vfio_pci_tph_write_entries(vdev, start, count, tags);
		if (ret > 0)
			memcpy(&tph->st[start], tags, ret * sizeof(*tags));
		if (pcie_tph_resume(pdev))
			ret = -EIO;
	}
	vfio_pci_tph_hw_end(vdev, cmd);

	vfio_pci_tph_show_ctrl(vdev);
	return ret;
}

/**
 * vfio_pci_tph_msix_begin - MSI-X vectors are about to be made or freed
 * @vdev: device
 *
 * Making and freeing vectors clears Steering Tags in the MSI-X table, which
 * must not happen while the device may send requests with them (PCIe r6.x,
 * sec 6.17.3).
 *
 * Context: May sleep.  memory_lock is held for writing, memory is enabled.
 * Return: 0, or -EIO if TPH could not be paused.
 */
int vfio_pci_tph_msix_begin(struct vfio_pci_core_device *vdev)
{
	lockdep_assert_held_write(&vdev->memory_lock);

	if (!vdev->tph || !vdev->tph->in_msix ||
	    vdev->pdev->current_state != PCI_D0)
		return 0;

	return pcie_tph_pause(vdev->pdev);
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
 */
void vfio_pci_tph_msix_end(struct vfio_pci_core_device *vdev,
			   unsigned int start, unsigned int count)
{
	struct vfio_pci_tph *tph = vdev->tph;
	struct pci_dev *pdev = vdev->pdev;

	lockdep_assert_held_write(&vdev->memory_lock);

	if (!tph || !tph->in_msix)
		return;

	if (pdev->current_state != PCI_D0) {
		tph->stale = true;
		return;
	}

	start = min(start, tph->nr_entries);
	count = min(count, tph->nr_entries - start);
	if (vfio_pci_tph_write_entries(vdev, start, count,
				       &tph->st[start]) != count)
		pcie_tph_set_ctrl(pdev, pcie_tph_mode(pdev),
				  PCI_TPH_REQ_DISABLE);
	pcie_tph_resume(pdev);

	/* What waits for D0 is still to come */
	if (!tph->stale)
		vfio_pci_tph_show_ctrl(vdev);
}

/* The state after a reset.  The opt-in stays. */
static void vfio_pci_tph_forget(struct vfio_pci_core_device *vdev)
{
	struct vfio_pci_tph *tph = vdev->tph;

	memset(tph->st, 0, tph->nr_entries * sizeof(*tph->st));
	tph->stale = false;
	*vfio_pci_tph_vreg(vdev, PCI_TPH_CTRL) = 0;
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

	if (!vdev->tph)
		return;

	/* No access to the MSI-X table then: the zeros follow at D0 */
	if (vdev->pdev->current_state != PCI_D0) {
		vfio_pci_tph_forget(vdev);
		vdev->tph->stale = true;
		return;
	}

	cmd = vfio_pci_tph_hw_begin(vdev);
	pcie_tph_clear(vdev->pdev);
	vfio_pci_tph_hw_end(vdev, cmd);

	vfio_pci_tph_forget(vdev);
}

/**
 * vfio_pci_tph_reset_begin - The user of the device resets it
 * @vdev: device
 *
 * The PCI core restores TPH after a reset, which is right for one that the user
 * did not ask for.  Who did asks for the state after reset, and expects TPH to
 * be off and the ST table to be cleared (PCIe r6.x, sec 6.6.2 and 7.9.13).
 *
 * Context: memory_lock is held for writing.  The reset follows in the same
 * task, then vfio_pci_tph_reset_end().
 */
void vfio_pci_tph_reset_begin(struct vfio_pci_core_device *vdev)
{
	lockdep_assert_held_write(&vdev->memory_lock);

	if (vdev->tph)
		pcie_tph_clear_on_restore(vdev->pdev);
}

/**
 * vfio_pci_tph_reset_end - The reset is over, or was refused
 * @vdev: device
 *
 * Context: As vfio_pci_tph_reset_begin().
 * Return: true if TPH has been cleared, or was never in use; false if the
 * device was not touched, and nothing has changed.
 */
bool vfio_pci_tph_reset_end(struct vfio_pci_core_device *vdev)
{
	lockdep_assert_held_write(&vdev->memory_lock);

	if (!vdev->tph)
		return true;

	if (!pcie_tph_clear_on_restore_done(vdev->pdev))
		return false;

	vfio_pci_tph_forget(vdev);
	return true;
}

/**
 * vfio_pci_tph_open - A user opens the device
 * @vdev: device
 *
 * What a host driver or firmware has left is not for the user.
 *
 * Context: May sleep.  The device is in D0 and has no interrupt vectors.
 * Return: 0, or -EIO if the device does not let itself be cleared.
 */
int vfio_pci_tph_open(struct vfio_pci_core_device *vdev)
{
	int ret;

	pci_cfg_access_lock(vdev->pdev);
	ret = pcie_tph_clear(vdev->pdev);
	pci_cfg_access_unlock(vdev->pdev);

	/* Without TPH there is nothing to clear */
	return ret == -EIO ? ret : 0;
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
		kzalloc_flex(*tph, st, nr_entries, GFP_KERNEL_ACCOUNT);
	struct pci_dev *pdev = vdev->pdev;
	u16 i;

	if (!tph)
		return -ENOMEM;

	tph->pos = pdev->tph_cap;
	tph->in_msix = nr_entries &&
		       pcie_tph_get_st_table_loc(pdev) == PCI_TPH_LOC_MSIX;
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
		if (vfio_pci_tph_table_size(vdev) &&
		    pcie_tph_has_cpu_st(vdev->pdev))
			tph.flags |= VFIO_DEVICE_TPH_CAP_CPU;

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
	struct pcie_tph_cpu_st st;
	int ret;

	if (cpu >= nr_cpu_ids || !cpu_possible(cpu))
		return -EINVAL;

	if (!pcie_tph_cpu_allowed(cpu))
		return -EPERM;

	ret = pcie_tph_get_cpu_st_all(vdev->pdev, cpu, &st);
	if (ret)
		return ret;

	*tag = pcie_tph_cpu_st_tag(&st, mem_type, PCI_TPH_REQ_TPH_ONLY);
	return 0;
}

/*
 * Turn the sources into tags.  No lock is held: firmware may take its time.
 *
 * Return: as write(2), the number of sources resolved, or the errno of the
 * first.
 */
static int vfio_pci_tph_resolve(struct vfio_pci_core_device *vdev, u32 flags,
				const u32 *dests, unsigned int count, u16 *tags)
{
	unsigned int i, j;
	int ret;

	if (flags & VFIO_DEVICE_TPH_SRC_NONE)
		return count;

	for (i = 0; i < count; i++) {
		/* Firmware is slow, ask it once for each CPU */
		for (j = 0; dests[j] != dests[i]; j++)
			;

		if (j < i) {
			tags[i] = tags[j];
			continue;
		}

		if (fatal_signal_pending(current))
			return -EINTR;

		ret = vfio_pci_tph_cpu_tag(vdev, flags, dests[i], &tags[i]);
		if (!ret && !tags[i] && flags & VFIO_DEVICE_TPH_REQUIRE_ST)
			ret = -ENOENT;
		if (ret)
			return i ?: ret;
	}

	return count;
}

static int vfio_pci_tph_check_st(struct vfio_pci_core_device *vdev,
				 const struct vfio_device_feature_tph_st *st)
{
	u32 cpu = VFIO_DEVICE_TPH_SRC_CPU_VOLATILE |
		  VFIO_DEVICE_TPH_SRC_CPU_PERSISTENT;
	u32 modifiers = VFIO_DEVICE_TPH_REQUIRE_ST | VFIO_DEVICE_TPH_EXTENDED;
	u32 src = st->flags & VFIO_DEVICE_TPH_SRC_MASK;

	if (st->flags & ~(VFIO_DEVICE_TPH_SRC_MASK | modifiers) ||
	    hweight32(src) != 1)
		return -EINVAL;

	if (src == VFIO_DEVICE_TPH_SRC_NONE && st->flags & modifiers)
		return -EINVAL;

	if (!st->count ||
	    st->start + st->count > vfio_pci_tph_table_size(vdev))
		return -EINVAL;

	if (!vfio_pci_tph_virtualized(vdev))
		return -EPERM;

	if (st->flags & VFIO_DEVICE_TPH_EXTENDED)
		return -EOPNOTSUPP;

	if (src == VFIO_DEVICE_TPH_SRC_NONE ||
	    (src & cpu && pcie_tph_has_cpu_st(vdev->pdev)))
		return 0;

	return -EOPNOTSUPP;
}

int vfio_pci_core_feature_tph_st(struct vfio_pci_core_device *vdev, u32 flags,
				 struct vfio_device_feature_tph_st __user *arg,
				 size_t argsz)
{
	u32 *dests __free(kvfree) = NULL;
	u16 *tags __free(kvfree) = NULL;
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

	if (!(st.flags & VFIO_DEVICE_TPH_SRC_NONE)) {
		dests = vmemdup_array_user(u64_to_user_ptr(st.dests), st.count,
					   sizeof(*dests));
		if (IS_ERR(dests))
			return PTR_ERR(dests);
	}

	ret = vfio_pci_tph_check_st(vdev, &st);
	if (ret)
		return ret;

	tags = kvcalloc(st.count, sizeof(*tags), GFP_KERNEL_ACCOUNT);
	if (!tags)
		return -ENOMEM;

	ret = vfio_pci_tph_resolve(vdev, st.flags, dests, st.count, tags);
	if (ret < 0)
		return ret;

	guard(rwsem_write)(&vdev->memory_lock);
	return vfio_pci_tph_program(vdev, st.start, ret, tags);
}
