/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * See os_numa.h.  libnuma's calls are used, but not its picture of the machine:
 * that is made once in the life of a process, and this one has to notice when
 * nodes come and go.  No memory is ever bound to one node for good: where such
 * a node is full, the kernel ends the process.  Instead the range prefers its
 * node and what lies elsewhere is moved, which fails without such an end.
 */
#define _GNU_SOURCE
#include "os_numa.h"

#include <errno.h>
#include <numaif.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "atomic.h"
#include "os.h"

#ifndef MPOL_F_STATIC_NODES	/* <numaif.h> has it not */
#define MPOL_F_STATIC_NODES (1 << 15)
#endif

enum {
	BATCH_PAGES = 256,	/* of one call: on the stack */
	LONG_BITS = 8 * sizeof(unsigned long),
	DISTANCE_TEXT = 4096,
};

static size_t page_bytes(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

/* ---- the machine ---- */

static bool has(const struct numa_ids *ids, int id)
{
	return ids->bits[id / 64] >> id % 64 & 1;
}

static bool has_many(const struct numa_ids *ids)
{
	int count = 0;

	for (int id = 0; id < NUMA_IDS; id++)
		count += has(ids, id);
	return count > 1;
}

static int bind(void *base, size_t bytes, int node);

/* Some containers let nobody place anything.  Who may, may go on. */
static bool may_place(const struct numa_ids *ids)
{
	static struct atomic_u32 known;
	bool may = u32_load_relaxed(&known); /* relaxed: never taken back */
	size_t bytes = page_bytes();
	void *page = may ? NULL : os_map(bytes, bytes);

	if (!page)
		return true;
	for (int id = 0; !may && id < NUMA_IDS; id++)
		may = has(ids, id) && !bind(page, bytes, id);
	os_unmap(page, bytes);
	u32_store_relaxed(&known, may); /* relaxed: as above */
	return may;
}

/* Known since the machine started: one that can't have two nodes is not asked
 * again, whatever it may be that keeps system calls from the process later. */
static bool can_have_many(void)
{
	static struct atomic_u32 known;	/* 0: not yet; 1: yes; 2: no */
	uint32_t can = u32_load_relaxed(&known); /* relaxed: a constant */
	char text[256];

	if (!can) {
		can = os_read_file("/sys/devices/system/node/possible", text,
				   sizeof(text)) <= 0 ||
		      strpbrk(text, ",-") ? 1 : 2;
		u32_store_relaxed(&known, can); /* relaxed: as above */
	}
	return can == 1;
}

static bool allowed(struct numa_ids *ret_ids)
{
	unsigned long mask[NUMA_IDS / LONG_BITS];
	int saved = errno;
	long ret;

	if (!can_have_many())
		return false;
	ret = get_mempolicy(NULL, mask, NUMA_IDS + 1, NULL,
			    MPOL_F_MEMS_ALLOWED);
	errno = saved;
	if (ret)
		return false;
	_Static_assert(sizeof(mask) == sizeof(*ret_ids), "as many bits");
	memcpy(ret_ids, mask, sizeof(mask));
	return !has_many(ret_ids) || may_place(ret_ids);
}

static unsigned cpu(void)
{
	int now = sched_getcpu();

	return now < 0 ? 0 : (unsigned)now;
}

static unsigned cpu_and_node(int *ret_node)
{
	unsigned now = 0, node = 0;
	int saved = errno;

	(void)syscall(SYS_getcpu, &now, &node, NULL);
	errno = saved;
	*ret_node = (int)node;
	return now;
}

/* The file of a node has a number for each node that is online, in order. */
static int rank_of(int node)
{
	char path[80];
	int rank = 0;

	for (int id = 0; id < node; id++) {
		snprintf(path, sizeof(path),
			 "/sys/devices/system/node/node%d", id);
		rank += access(path, F_OK) == 0;
	}
	return rank;
}

static unsigned distance(int from, int to)
{
	char path[80], text[DISTANCE_TEXT];
	int saved = errno, rank = rank_of(to);
	char *at = text;

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/distance",
		 from);
	if (os_read_file(path, text, sizeof(text)) < 0)
		text[0] = '\0';
	errno = saved;
	for (; rank > 0 && at; rank--)
		at = strchr(at + (*at == ' '), ' ');
	return at ? (unsigned)strtoul(at, NULL, 10) : 0;
}

/* ---- memory ---- */

static int bind(void *base, size_t bytes, int node)
{
	unsigned long mask[NUMA_IDS / LONG_BITS] = { 0 };
	int saved = errno;
	long ret;

	mask[(unsigned)node / LONG_BITS] = 1ul << (unsigned)node % LONG_BITS;
	ret = mbind(base, bytes, MPOL_PREFERRED | MPOL_F_STATIC_NODES, mask,
		    NUMA_IDS + 1, 0);
	ret = ret ? -errno : 0;
	errno = saved;
	return (int)ret;
}

/* Kernels before 5.14 don't know the advice. */
static int populate(char *base, size_t bytes)
{
	int ret = os_back(base, bytes);

	if (ret != -EINVAL)
		return ret;
	for (size_t at = 0; at < bytes; at += page_bytes())
		/* relaxed: the caller's alone, and only touched */
		u32_store_relaxed((struct atomic_u32 *)(base + at), 0);
	return 0;
}

/* One call of the system for up to BATCH_PAGES; node < 0: only asks. */
static long move(char *base, size_t count, int node, int *ret_status)
{
	void *pages[BATCH_PAGES];
	int nodes[BATCH_PAGES];
	long ret;

	for (size_t i = 0; i < count; i++) {
		pages[i] = base + i * page_bytes();
		nodes[i] = node;
	}
	ret = move_pages(0, count, pages, node < 0 ? NULL : nodes, ret_status,
			 node < 0 ? 0 : MPOL_MF_MOVE);
	return ret < 0 ? -errno : 0;
}

/* 0: all are there; else why not. */
static int is_there(const int *status, size_t count, int node)
{
	for (size_t i = 0; i < count; i++)
		if (status[i] != node)
			return status[i] < 0 ? status[i] : -ENOMEM;
	return 0;
}

/* It mostly lies right: then it is only asked for.  To move something takes a
 * word with all CPUs; and what the kernel is busy with may be there all the
 * same. */
static int move_all(char *base, size_t bytes, int node)
{
	int status[BATCH_PAGES];
	size_t count = bytes / page_bytes();
	long ret = move(base, count, -1, status);

	if (ret || !is_there(status, count, node))
		return (int)ret;
	ret = move(base, count, node, status);
	if (!ret)
		ret = move(base, count, -1, status);
	return ret ? (int)ret : is_there(status, count, node);
}

static int place(void *base, size_t bytes, int node)
{
	size_t most = BATCH_PAGES * page_bytes();
	int saved = errno;
	int ret = populate(base, bytes);

	for (size_t at = 0; !ret && at < bytes; at += most)
		ret = move_all((char *)base + at,
			       bytes - at < most ? bytes - at : most, node);
	errno = saved;
	return ret;
}

static void count(const int *status, size_t pages, int node,
		  struct numa_pages *sum)
{
	for (size_t i = 0; i < pages; i++) {
		sum->placed += status[i] == node;
		sum->misplaced += status[i] >= 0 && status[i] != node;
		sum->absent += status[i] < 0;
	}
}

static int where(void *base, size_t bytes, int node, struct numa_pages *pages)
{
	size_t most = BATCH_PAGES * page_bytes();
	int status[BATCH_PAGES];
	int saved = errno;
	long ret = 0;

	for (size_t at = 0; !ret && at < bytes; at += most) {
		size_t n = (bytes - at < most ? bytes - at : most) /
			   page_bytes();

		ret = move((char *)base + at, n, -1, status);
		if (!ret)
			count(status, n, node, pages);
	}
	errno = saved;
	return (int)ret;
}

const struct numa_system os_numa = {
	.allowed = allowed,
	.cpu = cpu,
	.cpu_and_node = cpu_and_node,
	.distance = distance,
	.bind = bind,
	.place = place,
	.where = where,
};
