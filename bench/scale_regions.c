/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From one region to a million: of four slices each, that nobody touches, so
 * that it is address space only.  The kernel would give 65,530 mappings, so
 * regions are cut from one, by the linker's --wrap.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "pool.h"
#include "rcu.h"
#include "scale.h"

enum {
	SLICES = 4,
	HOT = 64,		/* segments that are looked at again */
	SPREAD = 1 << 16,	/* ... that are not */
};

static const unsigned counts[] = { 1, 100, 10000, 1000000 };
static const char *const columns[] = { "1", "100", "10,000", "1,000,000" };
enum { COLUMNS = sizeof(counts) / sizeof(*counts) };

/* ------------------------------------------------------------ address space */

static struct {
	char *base, *end, *next;
} space;

void *__real_os_map(size_t bytes, size_t align);
int __real_os_unmap(void *base, size_t bytes);
void *__wrap_os_map(size_t bytes, size_t align);
int __wrap_os_unmap(void *base, size_t bytes);

void *__wrap_os_map(size_t bytes, size_t align)
{
	char *at = space.next;

	if (!at || align != REGION_ALIGN || bytes > REGION_ALIGN)
		return __real_os_map(bytes, align);
	if (at + REGION_ALIGN > space.end)
		return NULL;
	space.next = at + REGION_ALIGN;
	return at;
}

int __wrap_os_unmap(void *base, size_t bytes)
{
	if ((char *)base < space.base || (char *)base >= space.end)
		return __real_os_unmap(base, bytes);
	return 0;
}

static void reserve(void)
{
	size_t bytes = 0;

	for (unsigned i = 0; i < COLUMNS; i++)
		bytes += (size_t)(counts[i] + 64) * REGION_ALIGN;
	space.base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE |
			  MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (space.base == MAP_FAILED)
		die("no address space");
	space.end = space.base + bytes;
	space.next = (char *)(((uintptr_t)space.base + REGION_ALIGN - 1) &
			      ~(uintptr_t)(REGION_ALIGN - 1));
}

/* -------------------------------------------------------------------- pools */

struct scene {
	struct seg_budget *budget;
	struct seg_pool *pool;
	struct class_pool *cp;
	void **held;		/* two of each region's slices, about */
	unsigned count;
	void *hot[HOT], *spread[SPREAD];
	double open_ns, metadata;
};

static uint64_t random_state = 12345;

static unsigned by_chance(unsigned below)
{
	random_state = random_state * UINT64_C(6364136223846793005) + 1442695;
	return (unsigned)((random_state >> 33) % below);
}

static void swap(void **a, void **b)
{
	void *c = *a;

	*a = *b;
	*b = c;
}

/* Without the stash, which would take more than there shall be. */
static void open_all(struct scene *s, unsigned regions)
{
	uint64_t begin = thread_ns();
	struct taken t;

	for (unsigned i = 0; i < regions; i++) {
		if (class_pool_open(s->cp, SLICES * SEG_MIN_BYTES, SLICES,
				    &t) != OPEN_DONE)
			die("no region");
		s->held[s->count++] = t.segment;
		while ((t = class_pool_take(s->cp)).segment)
			s->held[s->count++] = t.segment;
	}
	s->open_ns = (double)(thread_ns() - begin) / regions;
}

/* Not into the stash. */
static void give_back(struct scene *s, void *segment)
{
	struct found f;

	if (pool_find_out(s->pool, segment, &f) ||
	    !region_disown(f.region, f.slice))
		die("pool_find_out()");
	rcu_enter();
	class_pool_give(s->cp, f.region, f.slice);
	rcu_leave();
}

static void release_half(struct scene *s)
{
	unsigned half = s->count / 2;

	for (unsigned i = s->count; i > 1; i--)
		swap(&s->held[i - 1], &s->held[by_chance(i)]);
	while (s->count > half)
		give_back(s, s->held[--s->count]);
}

static void begin(struct scene *s, unsigned regions)
{
	uint64_t before;

	s->budget = new_budget(UINT64_C(64) << 30);
	s->pool = new_pool(s->budget, SLICES * SEG_MIN_BYTES);
	s->cp = &s->pool->node.pools[0];
	s->held = malloc((size_t)regions * SLICES * sizeof(*s->held));
	if (!s->held)
		die("malloc()");
	before = resident_bytes();
	open_all(s, regions);
	s->metadata = (double)(resident_bytes() - before) / regions;
	release_half(s);
	for (unsigned i = 0; i < HOT; i++)
		s->hot[i] = s->held[by_chance(s->count)];
	for (unsigned i = 0; i < SPREAD; i++)
		s->spread[i] = s->held[by_chance(s->count)];
}

static void end(struct scene *s)
{
	while (s->count)
		seg_release(s->pool, s->held[--s->count]);
	free(s->held);
	end_pool(s->pool, s->budget);
}

/* --------------------------------------------------------------- operations */

static void look_at(struct scene *s, void *const *segments, unsigned n,
		    unsigned most)
{
	struct seg_handle handle;

	for (unsigned i = 0; i < n; i++)
		if (seg_handle_of(s->pool, segments[i % most], &handle))
			die("seg_handle_of()");
}

static void look_up_hot(void *ctx, unsigned n)
{
	struct scene *s = ctx;

	look_at(s, s->hot, n, HOT);
}

static void look_up_spread(void *ctx, unsigned n)
{
	struct scene *s = ctx;

	look_at(s, s->spread, n, SPREAD);
}

static void pair(void *ctx, unsigned n)
{
	struct scene *s = ctx;

	for (unsigned i = 0; i < n; i++) {
		void *segment = seg_alloc(s->pool, SEG_MIN_BYTES);

		if (!segment || seg_release(s->pool, segment))
			die("seg_alloc() or seg_release()");
	}
}

/* What a stash is filled from, for each slice. */
static void pair_of_regions(void *ctx, unsigned n)
{
	struct scene *s = ctx;

	for (unsigned i = 0; i < n; i++) {
		struct taken t = class_pool_take(s->cp);

		if (!t.segment)
			die("class_pool_take()");
		give_back(s, t.segment);
	}
}

/* Each replaces another one. */
static void replace_spread(void *ctx, unsigned n)
{
	static unsigned turn;
	struct scene *s = ctx;
	unsigned most = s->count < SPREAD ? s->count : SPREAD;

	for (unsigned i = 0; i < n; i++) {
		void **at = &s->held[turn++ % most];

		if (seg_release(s->pool, *at))
			die("seg_release()");
		*at = seg_alloc(s->pool, SEG_MIN_BYTES);
		if (!*at)
			die("seg_alloc()");
	}
}

/* At the limit, where each region is looked at before a refusal. */
static void fill(struct scene *s)
{
	struct seg_budget_stats b = { .size = sizeof(b) };
	void *segment;

	if (seg_budget_stats(s->budget, &b) ||
	    seg_budget_set_limit(s->budget, b.charged_bytes))
		die("seg_budget_set_limit()");
	while ((segment = seg_alloc(s->pool, SEG_MIN_BYTES)) != NULL)
		s->held[s->count++] = segment;
}

static void be_refused(void *ctx, unsigned n)
{
	struct scene *s = ctx;

	for (unsigned i = 0; i < n; i++)
		if (seg_alloc(s->pool, SEG_MIN_BYTES))
			die("it was not refused");
}

/* -------------------------------------------------------------------- table */

static void refusals(struct scene *scenes)
{
	double ns[COLUMNS] = { 0 };

	for (unsigned i = 0; i < COLUMNS; i++) {
		fill(&scenes[i]);
		for (int round = 0; round < ROUNDS; round++)
			ns[i] = least_ns(ns[i], be_refused, &scenes[i], 4);
	}
	table_row("refusal", "ns", ns, false);
}

void scale_regions(void)
{
	static struct scene scenes[COLUMNS];
	double open[COLUMNS], metadata[COLUMNS];
	void *ctx[COLUMNS];

	reserve();
	for (unsigned i = 0; i < COLUMNS; i++) {
		begin(&scenes[i], counts[i]);
		ctx[i] = &scenes[i];
		open[i] = scenes[i].open_ns;
		metadata[i] = scenes[i].metadata;
	}
	table_begin("regions", columns, COLUMNS, 0);
	measure("look-up", look_up_hot, ctx, 1 << 16, false);
	measure("look-up, each another", look_up_spread, ctx, SPREAD, true);
	measure("pair, at the regions", pair_of_regions, ctx, 1 << 14, false);
	measure("pair", pair, ctx, 1 << 16, false);
	for (unsigned i = 0; i < COLUMNS; i++)
		replace_spread(ctx[i], SPREAD);	/* from now on the stash's */
	measure("replace, each another", replace_spread, ctx, SPREAD, true);
	table_row("open one", "ns", open, false);
	table_row("resident for each", "bytes", metadata, false);
	refusals(scenes);
	for (unsigned i = 0; i < COLUMNS; i++)
		end(&scenes[i]);
	munmap(space.base, (size_t)(space.end - space.base));
	space.base = space.end = space.next = NULL;
}
