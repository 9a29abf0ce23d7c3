/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See topology.h. */
#include "topology.h"

#include <string.h>

#include "gate.h"
#include "os.h"

/* A look takes some microseconds; should the other thread have been stopped in
 * the middle, nobody waits for it for much more than 100 ms. */
enum { LOOK_ROUNDS = 128, LOOK_YIELDS = 28, LOOK_PAUSE_NS = 1000 * 1000 };

struct topology topology;

static struct {
	struct gate gate;
	const struct numa_system *system;	/* NULL: os_numa */
	/* under the gate */
	struct numa_ids allowed;
	unsigned distance[TOPOLOGY_NODES][TOPOLOGY_NODES];
	/* written once, under the gate */
	struct atomic_u32 looked;
	struct atomic_u32 none;		/* the system has no nodes */
} known;

const struct numa_system *topology_system(void)
{
	return known.system ? known.system : &os_numa;
}

void topology_use(const struct numa_system *system)
{
	gate_lock(&known.gate);
	memset(&topology, 0, sizeof(topology));
	memset(&known.allowed, 0, sizeof(known.allowed));
	/* relaxed, both: nobody else is there */
	u32_store_relaxed(&known.looked, 0);
	u32_store_relaxed(&known.none, 0); /* relaxed: as above */
	known.system = system;
	gate_unlock(&known.gate);
}

void topology_forked(void)
{
	memset(&known.gate, 0, sizeof(known.gate));
}

/* ---- under the gate ---- */

static bool has(const struct numa_ids *ids, int id)
{
	return ids->bits[id / 64] >> id % 64 & 1;
}

bool topology_find(int id, unsigned *ret_index)
{
	unsigned index = 0;

	if (id >= 0 && id < NUMA_IDS)
		/* acquire <- add(): what is known of it */
		index = u16_load_acquire(&topology.of_id[id]);
	if (!index)
		return false;
	*ret_index = index - 1;
	return true;
}

/* A node is the nearest to itself, whatever is told: emulated ones are no
 * farther from each other.  What is not told is far away, but there. */
static unsigned distance_of(int from, int to)
{
	unsigned distance;

	if (from == to)
		return 0;
	distance = topology_system()->distance(from, to);
	return distance ? distance : 255;
}

/* False: there is no index left for it. */
static bool add(int id)
{
	unsigned index = topology_count();

	if (index == TOPOLOGY_NODES || id < 0 || id >= NUMA_IDS)
		return false;
	/* relaxed: released below */
	u32_store_relaxed(&topology.id[index], (uint32_t)id);
	for (unsigned i = 0; i <= index; i++) {
		known.distance[i][index] = distance_of(topology_id(i), id);
		known.distance[index][i] = distance_of(id, topology_id(i));
	}
	/* While there was one, nothing was placed. */
	if (index == 1 && u32_load_relaxed(&known.looked)) /* relaxed: gate */
		u32_store_relaxed(&topology.away[0], 1); /* relaxed: advice */
	/* release -> topology_count() */
	u32_store_release(&topology.count, index + 1);
	/* release -> topology_find() */
	u16_store_release(&topology.of_id[id], (uint16_t)(index + 1));
	return true;
}

/* The usable node that comes after the last one; ties by index. */
static unsigned next_near(unsigned from, uint64_t left)
{
	unsigned best = TOPOLOGY_NODES;

	for (unsigned i = 0; i < TOPOLOGY_NODES; i++)
		if (left >> i & 1 &&
		    (best == TOPOLOGY_NODES ||
		     known.distance[from][i] < known.distance[from][best]))
			best = i;
	return best;
}

static void order_from(unsigned from, uint64_t usable)
{
	uint64_t left = usable;
	unsigned k = 0;

	for (; left; k++) {
		unsigned next = next_near(from, left);

		left &= ~((uint64_t)1 << next);
		/* release -> topology_near(): its number */
		u16_store_release(&topology.near[from][k],
				  (uint16_t)(next + 1));
	}
	if (k < TOPOLOGY_NODES)
		/* relaxed: advice */
		u16_store_relaxed(&topology.near[from][k], 0);
}

static void order_all(uint64_t usable)
{
	unsigned count = topology_count();

	for (unsigned i = 0; i < count; i++)
		order_from(i, usable);
}

static void count_gone(uint64_t usable)
{
	/* relaxed: written under the gate */
	uint64_t gone = u64_load_relaxed(&topology.usable) & ~usable;

	for (unsigned i = 0; i < TOPOLOGY_NODES; i++)
		if (gone >> i & 1)
			/* relaxed: advice */
			u32_store_relaxed(&topology.away[i],
					  topology_away(i) + 1);
}

static void set_usable(const struct numa_ids *ids)
{
	uint64_t usable = 0;
	unsigned index;

	for (int id = 0; id < NUMA_IDS; id++)
		if (has(ids, id) && (topology_find(id, &index) || add(id)) &&
		    topology_find(id, &index))
			usable |= (uint64_t)1 << index;
	count_gone(usable);
	order_all(usable);
	/* release -> topology_is_usable(), topology_turn() */
	u64_store_release(&topology.usable, usable);
	known.allowed = *ids;
	/* relaxed: only read here; release -> topology_changes() */
	u32_store_release(&topology.changes,
			  u32_load_relaxed(&topology.changes) + 1);
}

static bool is_empty(const struct numa_ids *ids)
{
	static const struct numa_ids none;

	return !memcmp(ids, &none, sizeof(none));
}

/* Without nodes there is one, of which nothing is asked any more. */
static void look(void)
{
	struct numa_ids ids = { .bits = { 1 } };
	bool there = topology_system()->allowed(&ids) && !is_empty(&ids);

	if (!there)
		ids = (struct numa_ids){ .bits = { 1 } };
	if (!there && !topology_has_many())
		u32_store_relaxed(&known.none, 1); /* relaxed: saves a call */
	/* relaxed: written under the gate */
	if (!u32_load_relaxed(&known.looked) ||
	    (there && memcmp(&ids, &known.allowed, sizeof(ids))))
		set_usable(&ids);
	/* release -> topology_check(): the first look is over */
	u32_store_release(&known.looked, 1);
}

static void pause_after(int round)
{
	struct atomic_u32 nobody = { 0 };

	if (round < LOOK_YIELDS)
		os_yield();
	else
		os_futex_wait(&nobody, 0, LOOK_PAUSE_NS);
}

void topology_look(void)
{
	/* relaxed: it only saves a call */
	if (u32_load_relaxed(&known.none))
		return;
	for (int round = 0; round < LOOK_ROUNDS; round++) {
		if (gate_try_long(&known.gate)) {
			look();
			gate_unlock(&known.gate);
			return;
		}
		pause_after(round);
	}
}

void topology_check(void)
{
	/* acquire <- look(); who comes later need not wait for another look */
	if (!u32_load_acquire(&known.looked)) {
		topology_look();
		return;
	}
	/* relaxed: it only saves a call */
	if (u32_load_relaxed(&known.none) || !gate_try(&known.gate))
		return;
	look();
	gate_unlock(&known.gate);
}

/* ---- without it ---- */

/* False: another thread looks just now, or there is no index left. */
static bool meet(int id, unsigned *ret_index)
{
	if (topology_find(id, ret_index))
		return true;
	if (!gate_try(&known.gate))
		return false;
	if (!topology_find(id, ret_index) && add(id))
		/* relaxed: written under the gate */
		order_all(u64_load_relaxed(&topology.usable));
	gate_unlock(&known.gate);
	return topology_find(id, ret_index);
}

/* The first time on a CPU, or always if the table has no place for it.  A node
 * without memory gets an index, too: what is near counts from there. */
static unsigned ask_here(void)
{
	unsigned index, cpu;
	int id;

	cpu = topology_system()->cpu_and_node(&id);
	if (!meet(id, &index))
		return 0;
	if (cpu < TOPOLOGY_CPUS)
		/* release -> topology_here(): what is near it */
		u16_store_release(&topology.of_cpu[cpu], (uint16_t)(index + 1));
	return index;
}

unsigned topology_here(void)
{
	unsigned cpu = topology_system()->cpu();
	unsigned index = 0;

	if (__builtin_expect(cpu < TOPOLOGY_CPUS, 1))
		/* acquire <- ask_here() */
		index = u16_load_acquire(&topology.of_cpu[cpu]);
	return __builtin_expect(index != 0, 1) ? index - 1 : ask_here();
}

bool topology_nearest(unsigned *ret_near)
{
	/* acquire <- order_from() */
	unsigned near = u16_load_acquire(&topology.near[topology_here()][0]);

	*ret_near = near - 1;
	return near != 0;
}

bool topology_near(unsigned index, unsigned k, unsigned *ret_near)
{
	unsigned near;

	if (k >= TOPOLOGY_NODES)
		return false;
	/* acquire <- order_from() */
	near = u16_load_acquire(&topology.near[index][k]);
	*ret_near = near - 1;
	return near != 0;
}

unsigned topology_turn(unsigned k)
{
	/* acquire <- set_usable() */
	uint64_t left = u64_load_acquire(&topology.usable);
	unsigned count = (unsigned)__builtin_popcountll(left);

	for (k = count ? k % count : 0; k; k--)
		left &= left - 1;
	return left ? (unsigned)__builtin_ctzll(left) : 0;
}
