/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See machine.h. */
#include "machine.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "topology.h"

enum {
	PAGE_SHIFT = 12,
	LEAF_SHIFT = 18,		/* pages of a leaf: 1 GiB */
	ROOT_SHIFT = 48 - PAGE_SHIFT - LEAF_SHIFT,
	NODE_DEFAULT_DISTANCE = 20,
};

static struct {
	pthread_mutex_t lock;
	/* under the lock */
	struct numa_ids allowed;
	bool hidden;
	uint16_t distance[NUMA_IDS][NUMA_IDS];	/* + 1; 0: default */
	uint64_t pages_left[NUMA_IDS];
	int place_error[NUMA_IDS];
	int bind_error, where_error;
	struct machine_calls calls;
	/* a node + 1 for each page; made under the lock */
	_Atomic(_Atomic uint16_t *) placed[1 << ROOT_SHIFT];
	_Atomic int node_of_cpu[MACHINE_CPUS];
	atomic_uint next_cpu;
	atomic_uint machines;		/* so far */
} m = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void lock(void)
{
	if (pthread_mutex_lock(&m.lock))
		abort();
}

static void unlock(void)
{
	pthread_mutex_unlock(&m.lock);
}

/* ---- the page records ---- */

static _Atomic uint16_t *record_of(const void *address, bool make)
{
	uintptr_t page = (uintptr_t)address >> PAGE_SHIFT;
	_Atomic(_Atomic uint16_t *) *root = &m.placed[page >> LEAF_SHIFT];
	_Atomic uint16_t *leaf = atomic_load(root);

	if (!leaf && make) {
		leaf = calloc((size_t)1 << LEAF_SHIFT, sizeof(*leaf));
		if (!leaf)
			abort();
		atomic_store(root, leaf);
	}
	return leaf ? &leaf[page & (((uintptr_t)1 << LEAF_SHIFT) - 1)] : NULL;
}

static void forget_pages(void)
{
	for (size_t i = 0; i < (size_t)1 << ROOT_SHIFT; i++) {
		free(atomic_load(&m.placed[i]));
		atomic_store(&m.placed[i], NULL);
	}
}

int machine_node_of(const void *address)
{
	_Atomic uint16_t *record = record_of(address, false);

	return record ? (int)atomic_load(record) - 1 : MACHINE_NOWHERE;
}

bool machine_has_placed(const void *base, size_t bytes, int node)
{
	size_t at = 0;

	while (at < bytes && machine_node_of((const char *)base + at) == node)
		at += (size_t)1 << PAGE_SHIFT;
	return at >= bytes;
}

/* ---- what the library asks ---- */

static bool get_allowed(struct numa_ids *ret_ids)
{
	bool there;

	lock();
	m.calls.allowed++;
	there = !m.hidden;
	if (there)
		*ret_ids = m.allowed;
	unlock();
	return there;
}

static _Thread_local struct {
	unsigned machine, cpu;
} self;

static unsigned get_cpu(void)
{
	unsigned machine = atomic_load(&m.machines);

	if (self.machine != machine) {
		self.machine = machine;
		self.cpu = atomic_fetch_add(&m.next_cpu, 1) % MACHINE_CPUS;
	}
	return self.cpu;
}

static unsigned get_cpu_and_node(int *ret_node)
{
	unsigned cpu = get_cpu();

	lock();
	m.calls.cpu_and_node++;
	unlock();
	*ret_node = atomic_load(&m.node_of_cpu[cpu]);
	return cpu;
}

static unsigned get_distance(int from, int to)
{
	unsigned distance;

	lock();
	m.calls.distance++;
	distance = m.distance[from][to];
	unlock();
	if (distance)
		return distance - 1;
	return from == to ? 10 : NODE_DEFAULT_DISTANCE;
}

static int bind(void *base, size_t bytes, int node)
{
	int ret;

	(void)base;
	(void)bytes;
	(void)node;
	lock();
	m.calls.bind++;
	ret = m.bind_error;
	unlock();
	return ret;
}

static void put(char *base, size_t bytes, int node)
{
	for (size_t at = 0; at < bytes; at += (size_t)1 << PAGE_SHIFT)
		atomic_store(record_of(base + at, true), (uint16_t)(node + 1));
}

static int place(void *base, size_t bytes, int node)
{
	uint64_t pages = bytes >> PAGE_SHIFT;
	int ret;

	lock();
	m.calls.place++;
	ret = m.place_error[node];
	if (!ret && m.pages_left[node] < pages)
		ret = -ENOMEM;
	if (!ret) {
		m.pages_left[node] -= pages;
		put(base, bytes, node);
	}
	unlock();
	return ret;
}

static int where(void *base, size_t bytes, int node, struct numa_pages *pages)
{
	int ret;

	lock();
	m.calls.where++;
	ret = m.where_error;
	unlock();
	for (size_t at = 0; !ret && at < bytes; at += (size_t)1 << PAGE_SHIFT) {
		int now = machine_node_of((char *)base + at);

		pages->placed += now == node;
		pages->misplaced += now >= 0 && now != node;
		pages->absent += now < 0;
	}
	return ret;
}

static const struct numa_system machine = {
	.allowed = get_allowed,
	.cpu = get_cpu,
	.cpu_and_node = get_cpu_and_node,
	.distance = get_distance,
	.bind = bind,
	.place = place,
	.where = where,
};

/* ---- what a test says ---- */

static void allow(int node, bool allowed)
{
	uint64_t bit = (uint64_t)1 << node % 64;

	if (allowed)
		m.allowed.bits[node / 64] |= bit;
	else
		m.allowed.bits[node / 64] &= ~bit;
}

void machine_begin(const int *nodes, unsigned count)
{
	lock();
	memset(&m.allowed, 0, sizeof(m.allowed));
	memset(m.distance, 0, sizeof(m.distance));
	memset(m.place_error, 0, sizeof(m.place_error));
	memset(m.pages_left, 0xff, sizeof(m.pages_left));
	memset(&m.calls, 0, sizeof(m.calls));
	m.hidden = false;
	m.bind_error = m.where_error = 0;
	forget_pages();
	for (unsigned i = 0; i < count; i++)
		allow(nodes[i], true);
	for (unsigned cpu = 0; cpu < MACHINE_CPUS; cpu++)
		atomic_store(&m.node_of_cpu[cpu],
			     count ? nodes[cpu % count] : 0);
	atomic_store(&m.next_cpu, 0);
	atomic_fetch_add(&m.machines, 1);
	unlock();
	(void)get_cpu();
	topology_use(&machine);
}

void machine_end(void)
{
	topology_use(NULL);
	lock();
	forget_pages();
	unlock();
}

void machine_allow(int node, bool allowed)
{
	lock();
	allow(node, allowed);
	unlock();
}

void machine_hide(bool hidden)
{
	lock();
	m.hidden = hidden;
	unlock();
}

void machine_put_cpu(unsigned cpu, int node)
{
	atomic_store(&m.node_of_cpu[cpu], node);
}

void machine_run_on(unsigned cpu)
{
	self.machine = atomic_load(&m.machines);
	self.cpu = cpu;
}

void machine_run_at(int node)
{
	unsigned cpu = 0;

	while (atomic_load(&m.node_of_cpu[cpu]) != node)
		if (++cpu == MACHINE_CPUS)
			abort();	/* it has none */
	machine_run_on(cpu);
}

void machine_set_distance(int from, int to, unsigned distance)
{
	lock();
	m.distance[from][to] = (uint16_t)(distance + 1);
	unlock();
}

void machine_give(int node, uint64_t pages)
{
	lock();
	for (int id = 0; id < NUMA_IDS; id++)
		if (node == id || node == MACHINE_ALL)
			m.pages_left[id] = pages;
	unlock();
}

void machine_fill(int node)
{
	machine_give(node, 0);
}

void machine_empty(int node)
{
	machine_give(node, UINT64_MAX);
}

void machine_fail_bind(int error)
{
	lock();
	m.bind_error = error;
	unlock();
}

void machine_fail_place(int node, int error)
{
	lock();
	for (int id = 0; id < NUMA_IDS; id++)
		if (node == id || node == MACHINE_ALL)
			m.place_error[id] = error;
	unlock();
}

void machine_fail_where(int error)
{
	lock();
	m.where_error = error;
	unlock();
}

struct machine_calls machine_calls(void)
{
	struct machine_calls calls;

	lock();
	calls = m.calls;
	unlock();
	return calls;
}
