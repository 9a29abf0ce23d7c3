/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The workloads whose threads have nothing to do with each other: a pair, a
 * batch, a working set; and, to be counted only, releases alone.
 */
#include <stdlib.h>

#include "segbench_work.h"

enum { CHUNK = 256, SHORT_BATCH = 64 };
enum { LIFO, FIFO, SHUFFLED, ORDERS };

static const int thread_counts[] = { 1, 2, 4, 8 };
enum { COUNTS = sizeof(thread_counts) / sizeof(*thread_counts) };

/* Each class of the set (a bit for each) at each number of threads. */
static void each_cell(const char *name, unsigned classes, struct crew *crew)
{
	for (int kind = 0; kind < KINDS; kind++)
		for (int t = 0; t < COUNTS; t++) {
			int threads = thread_counts[t];

			if (!(classes >> kind & 1) || !wanted(kind, threads))
				continue;
			crew->kind = kind;
			crew->threads = threads;
			print_figure(name, kind, threads, crew_figure(crew));
		}
}

enum {
	ALL = (1 << KINDS) - 1,
	SOME = 1 << 0 | 1 << 4 | 1 << 6 | 1 << MIXED,	/* 4, 64, 256 KiB */
};

static void *need(size_t bytes)
{
	void *memory = calloc(1, bytes);

	if (!memory)
		die("calloc");
	return memory;
}

/* -------------------------------------------------------------------- pair */

INLINED uint64_t pair_loop(struct worker *w, enum calls calls)
{
	const struct peer p = *peer;
	uint64_t n = 0;

	for (; worker_goes_on(w); n += CHUNK)
		for (unsigned i = 0; i < CHUNK; i++) {
			char *segment = get(&p, calls, w->sizes[i]);

			*segment = 1;
			put(&p, calls, segment, w->sizes[i]);
		}
	return n;
}
COMPILED(pair)

void pair_workload(void)
{
	struct crew crew = { .run = pair_run };

	each_cell("pair", ALL, &crew);
}

/* ------------------------------------------------------------------- batch */

struct batch {
	char *out[SIZES];
	uint16_t order[SIZES];	/* of the releases */
};

INLINED uint64_t batch_loop(struct worker *w, enum calls calls)
{
	const struct peer p = *peer;
	const unsigned count = w->crew->count;
	struct batch *b = w->own;
	uint64_t n = 0;

	for (; worker_goes_on(w); n += count) {
		for (unsigned i = 0; i < count; i++)
			b->out[i] = get(&p, calls, w->sizes[i]);
		for (unsigned i = 0; i < count; i++) {
			unsigned at = b->order[i];

			put(&p, calls, b->out[at], w->sizes[at]);
		}
	}
	return n;
}
COMPILED(batch)

static void shuffle(uint16_t *order, unsigned count, uint64_t *random)
{
	for (unsigned i = count; i > 1; i--) {
		unsigned other = (unsigned)(draw(random) >> 33) % i;
		uint16_t old = order[i - 1];

		order[i - 1] = order[other];
		order[other] = old;
	}
}

static void prepare_batch(struct worker *w)
{
	struct batch *b = w->own = need(sizeof(*b));
	unsigned count = w->crew->count;

	for (unsigned i = 0; i < count; i++)
		b->order[i] = (uint16_t)(w->crew->how == LIFO ? count - 1 - i :
					 i);
	if (w->crew->how == SHUFFLED)
		shuffle(b->order, count, &w->random);
}

static void free_own(struct worker *w)
{
	free(w->own);
}

static void batches(unsigned count, unsigned classes,
		    const char *const names[ORDERS])
{
	struct crew crew = { .count = count, .prepare = prepare_batch,
			     .run = batch_run, .finish = free_own };

	for (crew.how = 0; crew.how < ORDERS; crew.how++)
		each_cell(names[crew.how], classes, &crew);
}

void batch_workload(void)
{
	static const char *const names[] = {
		"batch64-lifo", "batch64-fifo", "batch64-random"
	};

	batches(SHORT_BATCH, ALL, names);
}

void long_batch_workload(void)
{
	static const char *const names[] = {
		"batch1024-lifo", "batch1024-fifo", "batch1024-random"
	};

	batches(SIZES, SOME, names);
}

/* ------------------------------------------------------------- working set */

struct set {
	unsigned live;
	struct slot {
		char *segment;
		size_t bytes;
	} slot[];
};

static void touch(char *segment, size_t bytes)
{
	for (size_t at = 0; at < bytes; at += PAGE_BYTES)
		segment[at] = 1;
}

/* The drawing is part of the figure, for all alike: see the floor. */
INLINED uint64_t set_loop(struct worker *w, enum calls calls)
{
	const struct peer p = *peer;
	const bool touched = w->crew->how;
	struct set *set = w->own;
	uint64_t n = 0;

	for (; worker_goes_on(w); n += CHUNK)
		for (unsigned i = 0; i < CHUNK; i++) {
			uint64_t drawn = draw(&w->random);
			struct slot *slot = &set->slot[
				(drawn >> 32) * set->live >> 32];

			put(&p, calls, slot->segment, slot->bytes);
			slot->bytes = w->sizes[drawn % SIZES];
			slot->segment = get(&p, calls, slot->bytes);
			if (touched)
				touch(slot->segment, slot->bytes);
		}
	return n;
}
COMPILED(set)

/* 16 MiB in each thread's hands; 4 MiB where there are many threads. */
static void prepare_set(struct worker *w)
{
	size_t bytes = (size_t)(w->crew->threads > 2 ? 4 : 16) << 20, sum = 0;
	struct set *set;

	w->own = set = need(sizeof(*set) + (bytes / SEG_MIN_BYTES + 1) *
					   sizeof(struct slot));
	while (sum < bytes) {
		struct slot *slot = &set->slot[set->live];

		slot->bytes = w->sizes[set->live++ % SIZES];
		slot->segment = peer_get(slot->bytes);
		if (w->crew->how)
			touch(slot->segment, slot->bytes);
		sum += slot->bytes;
	}
}

static void release_set(struct worker *w)
{
	struct set *set = w->own;

	while (set->live) {
		struct slot *slot = &set->slot[--set->live];

		peer_put(slot->segment, slot->bytes);
	}
	free(set);
}

void working_set_workload(void)
{
	struct crew crew = { .prepare = prepare_set, .run = set_run,
			     .finish = release_set };

	each_cell("ws-untouched", ALL, &crew);
	crew.how = 1;
	each_cell("ws-touched", ALL, &crew);
}

/* ----------------------------------------------------------------- release */

/* One thread releases what another has allocated: to be counted. */
INLINED uint64_t release_loop(struct worker *w, enum calls calls)
{
	const struct peer p = *peer;
	char **segments = w->crew->shared;

	for (uint64_t i = 0; i < settings.chunks; i++)
		put(&p, calls, segments[i], w->sizes[0]);
	return settings.chunks;
}
COMPILED(release)

void release_workload(void)
{
	struct crew crew = { .threads = 1, .run = release_run };
	char **segments = need(settings.chunks * sizeof(*segments) + 1);

	for (crew.kind = 0; crew.kind < SEG_CLASSES; crew.kind++) {
		if (!wanted(crew.kind, 1))
			continue;
		for (uint64_t i = 0; i < settings.chunks; i++)
			segments[i] = peer_get(class_bytes(crew.kind));
		crew.shared = segments;
		print_figure("release", crew.kind, 1, crew_figure(&crew));
	}
	free(segments);
}
