// SPDX-License-Identifier: GPL-2.0-only
/*
 * Simulated PCIe hierarchy for tests: access to config space
 */
#include <linux/cleanup.h>
#include <linux/lockdep.h>

#include "pci-sim.h"

/**
 * pci_sim_find_devfn() - find a function by its number
 * @fns: functions on a bus
 * @devfn: device and function number
 *
 * Return: the function, or NULL if it does not exist.
 */
struct pci_sim_fn *pci_sim_find_devfn(struct list_head *fns, u8 devfn)
{
	struct pci_sim_fn *fn, *vf;

	list_for_each_entry(fn, fns, siblings) {
		if (fn->devfn == devfn && pci_sim_exists(fn))
			return fn;

		if (pci_sim_is_bridge(fn))
			continue;
		vf = pci_sim_find_devfn(&fn->children, devfn);
		if (vf)
			return vf;
	}

	return NULL;
}

/**
 * pci_sim_route_config() - find the function that a config request arrives at
 * @host: host bridge
 * @bus: bus number
 * @devfn: device and function number
 *
 * The bus numbers in the registers of the bridges decide, as in hardware.
 *
 * Return: the function, or NULL if nothing answers.
 */
struct pci_sim_fn *pci_sim_route_config(struct pci_sim_host *host, u8 bus,
					u8 devfn)
{
	struct list_head *fns = &host->fns;
	struct pci_sim_fn *fn, *next;

	lockdep_assert_held(&pci_sim_lock);

	if (!bus)
		return pci_sim_find_devfn(fns, devfn);

	do {
		next = NULL;
		list_for_each_entry(fn, fns, siblings) {
			u8 secondary = pci_sim_get8(fn, PCI_SECONDARY_BUS);

			if (!pci_sim_is_bridge(fn) ||
			    !pci_sim_bridge_forwards(fn))
				continue;

			if (secondary && secondary == bus)
				return pci_sim_find_devfn(&fn->children, devfn);

			if (secondary && bus > secondary &&
			    bus <= pci_sim_get8(fn, PCI_SUBORDINATE_BUS))
				next = fn;
		}
		if (next)
			fns = &next->children;
	} while (next);

	return NULL;
}

static u32 pci_sim_mask(int where, int size)
{
	return GENMASK(8 * size - 1, 0) << (8 * (where & 3));
}

static bool pci_sim_fail(struct pci_sim_fail *fail, int where)
{
	if (!fail->count || fail->where != (where & ~3))
		return false;

	if (fail->skip) {
		fail->skip--;
		return false;
	}

	fail->count--;
	return true;
}

static void pci_sim_record_config(struct pci_sim_fn *fn,
				  enum pci_sim_record_type type,
				  enum pci_sim_fate fate, int where, int size,
				  u32 value)
{
	struct pci_sim_record rec = {
		.type = type,
		.fate = fate,
		.addr = where,
		.len = size,
		.value = value,
	};

	pci_sim_record(fn, &rec);
}

static int pci_sim_read(struct pci_bus *bus, unsigned int devfn, int where,
			int size, u32 *val)
{
	struct pci_sim_host *host = container_of(bus->sysdata,
						 struct pci_sim_host, sysdata);
	struct pci_sim_fn *fn;

	guard(raw_spinlock_irqsave)(&pci_sim_lock);

	PCI_SET_ERROR_RESPONSE(val);
	fn = pci_sim_route_config(host, bus->number, devfn);
	if (!fn)
		return PCIBIOS_DEVICE_NOT_FOUND;

	if (fn->hung || pci_sim_fail(&fn->fail_read, where)) {
		pci_sim_record_config(fn, PCI_SIM_CFG_READ, PCI_SIM_FATE_FAILED,
				      where, size, *val);
		return PCIBIOS_SET_FAILED;
	}

	*val = (pci_sim_get32(fn, where) & pci_sim_mask(where, size)) >>
	       (8 * (where & 3));
	pci_sim_record_config(fn, PCI_SIM_CFG_READ, PCI_SIM_FATE_OK, where,
			      size, *val);
	return PCIBIOS_SUCCESSFUL;
}

static void pci_sim_trap(struct pci_sim_fn *fn, unsigned int reg, u32 old,
			 u32 val, u32 mask)
{
	const struct pci_sim_trap *trap;

	for (trap = fn->trap; trap < fn->trap + fn->nr_traps; trap++)
		if (reg >= trap->first && reg <= trap->last)
			trap->write(fn, reg, old, val, mask);
}

static int pci_sim_write(struct pci_bus *bus, unsigned int devfn, int where,
			 int size, u32 val)
{
	struct pci_sim_host *host = container_of(bus->sysdata,
						 struct pci_sim_host, sysdata);
	u32 mask = pci_sim_mask(where, size), old;
	struct pci_sim_reg *reg;
	struct pci_sim_fn *fn;

	guard(raw_spinlock_irqsave)(&pci_sim_lock);

	fn = pci_sim_route_config(host, bus->number, devfn);
	if (!fn)
		return PCIBIOS_DEVICE_NOT_FOUND;

	val = (val << (8 * (where & 3))) & mask;
	if (fn->hung || pci_sim_fail(&fn->fail_write, where)) {
		pci_sim_record_config(fn, PCI_SIM_CFG_WRITE,
				      PCI_SIM_FATE_FAILED, where, size,
				      val >> (8 * (where & 3)));
		return PCIBIOS_SET_FAILED;
	}

	/* A function learns its bus number from the writes that it receives */
	fn->bdf = PCI_DEVID(bus->number, devfn);
	pci_sim_record_config(fn, PCI_SIM_CFG_WRITE, PCI_SIM_FATE_OK, where,
			      size, val >> (8 * (where & 3)));

	reg = &fn->reg[where / 4];
	old = reg->value;
	reg->value &= ~(reg->rw & mask);
	reg->value |= val & reg->rw;
	reg->value &= ~(val & reg->w1c);

	pci_sim_trap(fn, where & ~3, old, val, mask);
	return PCIBIOS_SUCCESSFUL;
}

struct pci_ops pci_sim_ops = {
	.read	= pci_sim_read,
	.write	= pci_sim_write,
};
