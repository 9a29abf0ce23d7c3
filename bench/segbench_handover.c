/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One to three threads allocate and write a byte, another one releases: each
 * who allocates has a ring of its own to it.  What the rings cost is the
 * figure of the peer "floor".
 */
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "segbench_work.h"

/*
 * Who allocates shows what it gave in lots, which a chunk is a multiple of: the
 * rings should cost little.
 */
enum { RING = 1024, LOT = 16, CHUNK = 64, RINGS_MOST = THREADS_MOST,
       WARM = 4 * RING };	/* segments, before it is measured */

/* Indices only grow.  Each side has a copy of the other's last seen. */
struct ring {
	/* Written by who allocates. */
	_Alignas(64) atomic_ulong head;
	unsigned long head_given, tail_seen;
	atomic_int ended_run;	/* 1 + the run in which nothing more comes */
	/* Written by who releases. */
	_Alignas(64) atomic_ulong tail;
	unsigned long head_seen;
	_Alignas(64) struct entry {
		char *segment;
		size_t bytes;
	} entry[RING];
};
static struct ring rings[RINGS_MOST];

static void pause_a_little(unsigned *spins)
{
	if (++*spins % 64 == 0)
		sched_yield();
#if defined(__x86_64__) || defined(__i386__)
	else
		__builtin_ia32_pause();
#endif
}

/* release -> take(): the entry is written; acquire <- take(): it is free. */
INLINED void give(struct ring *r, char *segment, size_t bytes)
{
	unsigned long head = r->head_given;
	unsigned spins = 0;

	while (head - r->tail_seen == RING) {
		r->tail_seen = atomic_load_explicit(&r->tail,
						    memory_order_acquire);
		if (head - r->tail_seen == RING)
			pause_a_little(&spins);
	}
	r->entry[head % RING] = (struct entry){ segment, bytes };
	r->head_given = ++head;
	if (head % LOT == 0)
		atomic_store_explicit(&r->head, head, memory_order_release);
}

/* acquire <- give(): what is in the entry; release -> give(): it was read. */
INLINED bool take(struct ring *r, struct entry *entry)
{
	unsigned long tail = atomic_load_explicit(&r->tail,
						  memory_order_relaxed);

	if (tail == r->head_seen) {
		r->head_seen = atomic_load_explicit(&r->head,
						    memory_order_acquire);
		if (tail == r->head_seen)
			return false;
	}
	*entry = r->entry[tail % RING];
	atomic_store_explicit(&r->tail, tail + 1, memory_order_release);
	return true;
}

/* Of each "count" + 1 threads the last one releases. */
static bool releases(const struct worker *w)
{
	return (unsigned)w->index % (w->crew->count + 1) == w->crew->count;
}

INLINED uint64_t give_loop(struct worker *w, enum calls calls)
{
	const struct peer p = *peer;
	struct ring *r = &rings[w->index];
	uint64_t n = 0;

	for (; worker_goes_on(w) || (!w->run && n < WARM); n += CHUNK)
		for (unsigned i = 0; i < CHUNK; i++) {
			size_t bytes = w->sizes[(n + i) % SIZES];
			char *segment = get(&p, calls, bytes);

			*segment = 1;
			give(r, segment, bytes);
		}
	/* release -> all_ended() */
	atomic_store_explicit(&r->ended_run, w->run + 1, memory_order_release);
	return n;
}
COMPILED(give)

static struct ring *ring_of(const struct worker *w, unsigned i)
{
	return &rings[w->index - (int)i];
}

/* What was not touched yet is not measured here, but by grow: at first as much
 * is allocated as ever is on its way. */
static void await_full_rings(const struct worker *w)
{
	unsigned spins = 0;

	for (unsigned i = 1; i <= w->crew->count; i++)
		while (atomic_load_explicit(&ring_of(w, i)->head,
					    memory_order_relaxed) < RING)
			pause_a_little(&spins);
}

/* acquire <- give_loop(): nothing comes after this, in this run. */
static bool all_ended(const struct worker *w)
{
	for (unsigned i = 1; i <= w->crew->count; i++)
		if (atomic_load_explicit(&ring_of(w, i)->ended_run,
					 memory_order_acquire) != w->run + 1)
			return false;
	return true;
}

INLINED uint64_t take_loop(struct worker *w, enum calls calls)
{
	const struct peer p = *peer;
	struct entry entry;
	unsigned spins = 0;
	bool ended, any;

	if (!w->run)
		await_full_rings(w);
	do {
		ended = all_ended(w);
		any = false;
		for (unsigned i = 1; i <= w->crew->count; i++)
			while (take(ring_of(w, i), &entry)) {
				put(&p, calls, entry.segment, entry.bytes);
				any = true;
			}
		if (!any)
			pause_a_little(&spins);
	} while (!ended);
	return 0;
}
COMPILED(take)

static uint64_t handover_run(struct worker *w)
{
	return releases(w) ? take_run(w) : give_run(w);
}

static void measure(const char *name, unsigned count, int threads)
{
	struct crew crew = { .count = count, .threads = threads,
			     .run = handover_run };

	for (crew.kind = 0; crew.kind < KINDS; crew.kind++) {
		if (!wanted(crew.kind, threads))
			continue;
		memset(rings, 0, sizeof(rings));
		print_figure(name, crew.kind, threads, crew_figure(&crew));
	}
}

void handover_workload(void)
{
	measure("handover-1:1", 1, 2);
	measure("handover-1:1", 1, 4);
	measure("handover-1:1", 1, 8);
	measure("handover-3:1", 3, 4);
}
