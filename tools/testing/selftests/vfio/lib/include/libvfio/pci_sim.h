/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_PCI_SIM_H
#define SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_PCI_SIM_H

#include <libvfio/vfio_pci_device.h>

#if __has_include("linux/pci_sim.h")
#include <linux/pci_sim.h>
#else
#include <libvfio/pci_sim_none.h>
#endif

/* Fits "0000:00:00.0" */
#define PCI_SIM_BDF_SIZE 16

/*
 * A simulated PCIe hierarchy, described through configfs. Components are named
 * by their path, for example "hb0/rp0/ep0": host bridge, Root Port, endpoint.
 */
struct pci_sim {
	char path[64];
};

/* Return whether the pci_sim module is there, and was when this was built. */
bool pci_sim_available(void);

/*
 * Return an empty hierarchy. What an earlier user left under this name is
 * removed, so a test that died does not make the next one fail.
 */
struct pci_sim *pci_sim_init(const char *name);
void pci_sim_cleanup(struct pci_sim *sim);

/* Remove the hierarchy of this name, if there is one. */
void pci_sim_remove(const char *name);

/*
 * Add a component, and those above it that do not exist. @attrs, which may be
 * NULL, are its attributes: "tph_loc=2 msix=64".
 */
void pci_sim_add(struct pci_sim *sim, const char *component, const char *attrs);

/* Create the devices, or remove them. Without devices @sim may be changed. */
void pci_sim_set_live(struct pci_sim *sim, bool live);

int __pci_sim_set(struct pci_sim *sim, const char *component, const char *attr,
		  const char *value);
void pci_sim_set(struct pci_sim *sim, const char *component, const char *attr,
		 const char *value);
void pci_sim_get(struct pci_sim *sim, const char *component, const char *attr,
		 char *buf, size_t size);

/* Get the address of a live component */
void pci_sim_get_bdf(struct pci_sim *sim, const char *component, char *bdf);

/* Add a component's address, and give it to vfio-pci */
void pci_sim_bind_vfio(struct pci_sim *sim, const char *component, char *bdf);

/*
 * The hardware's own view of an endpoint. Looking at it is no access of the
 * simulated hierarchy, so it leaves nothing in a trace.
 */
u32 pci_sim_tph_cap(struct pci_sim *sim, const char *component);
u32 pci_sim_tph_ctrl(struct pci_sim *sim, const char *component);
/* Return the number of entries, of which at most @max are stored */
int pci_sim_st_table(struct pci_sim *sim, const char *component, u16 *entries,
		     int max);

/*
 * Of the accesses to the dword of config space at @offset, @skip succeed and the
 * @count after them fail.
 */
void pci_sim_fail_read(struct pci_sim *sim, const char *component, u16 offset,
		       u32 count, u32 skip);
void pci_sim_fail_write(struct pci_sim *sim, const char *component, u16 offset,
			u32 count, u32 skip);
void pci_sim_fail_none(struct pci_sim *sim, const char *component);

/* Reset an endpoint or a VF without a word to the kernel */
void pci_sim_reset(struct pci_sim *sim, const char *component);

/*
 * Let a function detect an error: "correctable", "nonfatal" or "fatal". When
 * this returns the interrupt has been raised, and the kernel has yet to act.
 */
void pci_sim_error(struct pci_sim *sim, const char *component,
		   const char *severity);

/* Let a function detect a fatal error, and wait for the kernel to recover. */
void pci_sim_error_reset(struct pci_sim *sim, const char *component,
			 const char *severity);

/* How often a Steering Tag changed while TPH was enabled, since boot */
u64 pci_sim_violations(void);

/* What happens on the simulated hierarchy between start and stop. */
struct pci_sim_trace {
	int fd;
	size_t nr;
	size_t size;
	struct pci_sim_record *records;
};

struct pci_sim_trace *pci_sim_trace_init(void);
void pci_sim_trace_cleanup(struct pci_sim_trace *trace);
void pci_sim_trace_start(struct pci_sim_trace *trace);
/* Asserts that the trace is complete. */
void pci_sim_trace_stop(struct pci_sim_trace *trace);

/* Return whether @bdf is the requester, or the target of the config access */
bool pci_sim_record_match(const struct pci_sim_record *record, const char *bdf);

/* Return whether @bdf is the peer that completed the request */
bool pci_sim_record_target(const struct pci_sim_record *record, const char *bdf);

/* Return whether @record is a config access that touches a range of @bdf. */
bool pci_sim_record_config(const struct pci_sim_record *record, const char *bdf,
			   u16 offset, u16 size);

/* Return how many config accesses of the trace touch a range of @bdf. */
u32 pci_sim_trace_count_config(struct pci_sim_trace *trace, const char *bdf,
			       u16 offset, u16 size);

/* Return the first Memory Write Request of @bdf in the trace, or NULL */
const struct pci_sim_record *
pci_sim_trace_first_write(struct pci_sim_trace *trace, const char *bdf);

/* Print a record in the form in which debugfs shows it, without its number */
void pci_sim_record_print(const struct pci_sim_record *record);

/*
 * The engine of the endpoint. It needs Bus Master Enable. Returns 0, or -EIO if
 * one of the requests failed.
 */
void pci_sim_engine_start(struct vfio_pci_device *device,
			  const struct pci_sim_desc *desc);
int pci_sim_engine_wait(struct vfio_pci_device *device);
int pci_sim_engine_run(struct vfio_pci_device *device,
		       const struct pci_sim_desc *desc);

/*
 * The driver in the kernel that imports dma-bufs for an endpoint. An importer is
 * a file, which is attached until it is closed. Functions with __ return -errno.
 */
#define PCI_SIM_DMABUF_DRIVER "pci-sim-dmabuf"
bool pci_sim_dmabuf_available(void);
int pci_sim_dmabuf_open(void);
int __pci_sim_dmabuf_attach(int importer, int fd, const char *bdf);
void pci_sim_dmabuf_attach(int importer, int fd, const char *bdf);
int __pci_sim_dmabuf_get_tph(int importer, bool extended, u16 *st, u8 *ph);
/* Let the endpoint write 8 bytes, repeated. */
int __pci_sim_dmabuf_write(int importer, u64 pattern, u32 offset, u32 len);
void pci_sim_dmabuf_write(int importer, u64 pattern, u32 offset, u32 len);

/* Return a dma-buf of memory, whose hints are those of a CPU */
int pci_sim_dmabuf_export(u32 size, u32 cpu);

/* The driver of the endpoint, which copies memory with the engine */
extern struct vfio_pci_driver_ops pci_sim_ops;

#endif /* SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_PCI_SIM_H */
