// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/wait.h>

#include <linux/pci_regs.h>
#include <linux/vfio.h>

#include <libvfio.h>

int __vfio_pci_tph_opt_in(struct vfio_pci_device *device)
{
	struct vfio_device_feature_tph tph = {};

	return __vfio_device_feature_set(device->fd, VFIO_DEVICE_FEATURE_TPH,
					 &tph, sizeof(tph));
}

void vfio_pci_tph_opt_in(struct vfio_pci_device *device)
{
	VFIO_ASSERT_EQ(__vfio_pci_tph_opt_in(device), 0);
}

u32 vfio_pci_tph_flags(struct vfio_pci_device *device)
{
	struct vfio_device_feature_tph tph = {};

	vfio_device_feature_get(device->fd, VFIO_DEVICE_FEATURE_TPH,
				&tph, sizeof(tph));

	return tph.flags;
}

int __vfio_pci_tph_st(struct vfio_pci_device *device, u32 flags, u16 start,
		      u16 count, const u32 *dests)
{
	struct vfio_device_feature_tph_st st = {
		.flags = flags,
		.start = start,
		.count = count,
		.dests = (uintptr_t)dests,
	};

	return __vfio_device_feature_set(device->fd, VFIO_DEVICE_FEATURE_TPH_ST,
					 &st, sizeof(st));
}

void vfio_pci_tph_st(struct vfio_pci_device *device, u32 flags, u16 start,
		     u16 count, const u32 *dests)
{
	int ret = __vfio_pci_tph_st(device, flags, start, count, dests);

	VFIO_ASSERT_EQ(ret, count, "TPH_ST(%#x, %u, %u) returned %d\n",
		       flags, start, count, ret);
}

int __vfio_pci_tph_resolve(struct vfio_pci_device *device, u32 flags, u32 src,
			   struct vfio_device_feature_tph_resolve *resolve)
{
	memset(resolve, PCI_TPH_UNTOUCHED, sizeof(*resolve));
	resolve->flags = flags;
	resolve->src = src;

	return __vfio_device_feature_get(device->fd,
					 VFIO_DEVICE_FEATURE_TPH_RESOLVE,
					 resolve, sizeof(*resolve));
}

int __vfio_pci_dma_buf_tph(struct vfio_pci_device *device, int dmabuf_fd,
			   u32 flags, u8 st, u16 st_ext, u8 ph)
{
	struct vfio_device_feature_dma_buf_tph tph = {
		.dmabuf_fd = dmabuf_fd,
		.flags = flags,
		.steering_tag_ext = st_ext,
		.steering_tag = st,
		.ph = ph,
	};

	return __vfio_device_feature_set(device->fd,
					 VFIO_DEVICE_FEATURE_DMA_BUF_TPH,
					 &tph, sizeof(tph));
}

void vfio_pci_dma_buf_tph(struct vfio_pci_device *device, int dmabuf_fd,
			  u32 flags, u8 st, u16 st_ext, u8 ph)
{
	VFIO_ASSERT_EQ(__vfio_pci_dma_buf_tph(device, dmabuf_fd, flags, st,
					      st_ext, ph), 0);
}

static u16 tph_pos(struct vfio_pci_device *device)
{
	u16 pos = vfio_pci_find_ext_cap(device, PCI_EXT_CAP_ID_TPH);

	VFIO_ASSERT_NE(pos, 0, "%s has no TPH capability\n", device->bdf);

	return pos;
}

u32 vfio_pci_tph_cap(struct vfio_pci_device *device)
{
	return vfio_pci_config_readl(device, tph_pos(device) + PCI_TPH_CAP);
}

u32 vfio_pci_tph_ctrl(struct vfio_pci_device *device)
{
	return vfio_pci_config_readl(device, tph_pos(device) + PCI_TPH_CTRL);
}

void vfio_pci_tph_enable(struct vfio_pci_device *device, u8 mode, u8 req)
{
	u32 ctrl = PCI_TPH_CTRL_VALUE(mode, req);

	vfio_pci_config_writel(device, tph_pos(device) + PCI_TPH_CTRL, ctrl);
	VFIO_ASSERT_EQ(vfio_pci_tph_ctrl(device), ctrl);
}

void vfio_pci_tph_disable(struct vfio_pci_device *device)
{
	vfio_pci_tph_enable(device, PCI_TPH_ST_NS_MODE, PCI_TPH_REQ_DISABLE);
}

bool vfio_pci_tph_turned_off(void)
{
	FILE *file = fopen("/proc/cmdline", "re");
	char line[4096] = "";

	VFIO_ASSERT_NOT_NULL(file);
	VFIO_ASSERT_NOT_NULL(fgets(line, sizeof(line), file));
	fclose(file);

	return strstr(line, "pci=notph");
}

int vfio_pci_tph_level(void)
{
	FILE *file = fopen(VFIO_PCI_TPH_LEVEL, "re");
	int level;

	/* Without levels, what is granted is that of level 0. */
	if (!file)
		return access("/sys/module/vfio_pci_core", F_OK) ? -1 : 0;

	if (fscanf(file, "%d", &level) != 1)
		level = -1;

	fclose(file);

	return level;
}

static int run(const char *command)
{
	int status = system(command);

	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int vfio_pci_unload(void)
{
	/* This can fail for the modules below, after those here are gone. */
	run("modprobe -r vfio_pci_test 2>/dev/null");
	run("modprobe -r vfio_pci 2>/dev/null");
	run("modprobe -r vfio_pci_core 2>/dev/null");

	return access("/sys/module/vfio_pci_core", F_OK) ? 0 : -1;
}

int vfio_pci_load(const char *level)
{
	char command[128];

	snprintf_assert(command, sizeof(command),
			"modprobe vfio_pci_core tph=%s 2>/dev/null", level);
	if (run(command))
		return -1;

	return run("modprobe vfio_pci 2>/dev/null");
}

const char *vfio_pci_tph_set_level(int level)
{
	char value[16];

	if (vfio_pci_tph_level() == level &&
	    !access("/sys/module/vfio_pci", F_OK))
		return NULL;

	if (vfio_pci_unload())
		return "vfio-pci is in use, so its level cannot be changed";

	snprintf_assert(value, sizeof(value), "%d", level);
	if (vfio_pci_load(value))
		return "vfio-pci cannot be loaded with this level";

	if (vfio_pci_tph_level() != level)
		return "vfio_pci_core has no parameter \"tph\"";

	return NULL;
}

static u64 now_ms(void)
{
	struct timespec now;

	VFIO_ASSERT_EQ(clock_gettime(CLOCK_MONOTONIC, &now), 0);
	return now.tv_sec * 1000ull + now.tv_nsec / 1000000;
}

u64 vfio_pci_tph_stress_end(u32 parts)
{
	const char *seconds = getenv("VFIO_TPH_STRESS_SECONDS");

	return now_ms() + (seconds ? atoi(seconds) : 60) * 1000ull / parts;
}

bool vfio_pci_tph_stress_on(u64 end)
{
	return now_ms() < end;
}
