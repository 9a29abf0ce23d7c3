/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See region_store.h. */
#include "region_store.h"

#include "os.h"

enum {
	PAGE_BYTES = 4096,
};

/* The explorer has little. */
#ifndef CHUNK_REGIONS
#define CHUNK_REGIONS 128
#endif

/* None of its structs is ever given back alone. */
struct chunk {
	_Alignas(CACHE_LINE) struct chunk *next;
	struct atomic_u32 used;
	struct region region[CHUNK_REGIONS];
};

static struct atomic_ptr *stack_of(struct region_store *s, uint32_t slices)
{
	return &s->idle[31 - __builtin_clz(slices)];
}

static void push(struct atomic_ptr *stack, struct region *r)
{
	void *old = ptr_load_relaxed(stack); /* relaxed: compared */

	do {
		r->next_idle = old;
		/* release -> take_all(); retries only when another thread put
		 * one or took all */
	} while (!ptr_cas_weak_release(stack, &old, r));
}

static struct region *take_all(struct atomic_ptr *stack)
{
	/* acquire <- push() */
	return ptr_exchange_acquire(stack, NULL);
}

static struct region *get_idle(struct region_store *s, uint32_t slices)
{
	struct atomic_ptr *stack = stack_of(s, slices);
	struct region *found = NULL, *next;

	for (struct region *r = take_all(stack); r; r = next) {
		next = r->next_idle;
		if (!found && r->slices == slices)
			found = r;
		else
			push(stack, r);
	}
	return found;
}

/* ---- structs ---- */

static struct region *carve(struct chunk *chunk)
{
	/* relaxed: a number that nobody else gets */
	uint32_t n = chunk ? u32_add_relaxed(&chunk->used, 1) : CHUNK_REGIONS;

	return n < CHUNK_REGIONS ? &chunk->region[n] : NULL;
}

/* Another thread's new chunk is as good. */
static bool add_chunk(struct region_store *s, void *last)
{
	struct chunk *chunk = os_map(sizeof(*chunk), CACHE_LINE);

	if (!chunk)
		return false;
	chunk->next = last;
	/* acq_rel: release -> new_struct(); acquire <- the one that was
	 * first */
	if (!ptr_cas_strong_acq_rel(&s->chunk, &last, chunk))
		os_unmap(chunk, sizeof(*chunk));
	return true;
}

/* Retries only when others had all of a chunk meanwhile. */
static struct region *new_struct(struct region_store *s)
{
	struct region *r;
	void *last;

	do {
		/* acquire <- add_chunk() */
		last = ptr_load_acquire(&s->chunk);
		r = carve(last);
	} while (!r && add_chunk(s, last));
	return r;
}

/* ---- arrays ---- */

static size_t whole_pages(size_t bytes)
{
	return (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

static struct region *get_new(struct region_store *s, uint32_t slices,
			      uint32_t taken)
{
	void *arrays = os_map(region_arrays_bytes(slices), CACHE_LINE);
	struct region *r = arrays ? new_struct(s) : NULL;

	if (r)
		region_init(r, arrays, slices, taken);
	else if (arrays)
		os_unmap(arrays, region_arrays_bytes(slices));
	return r;
}

struct region *region_store_get(struct region_store *s, uint32_t slices,
				uint32_t taken)
{
	struct region *r = get_idle(s, slices);

	if (r)
		region_begin(r, taken);
	else
		r = get_new(s, slices, taken);
	if (r)
		/* relaxed: counter */
		u64_add_relaxed(&s->bytes, sizeof(*r) + r->arrays_bytes);
	return r;
}

/* The arrays hold zeros already: it is only their backing. */
void region_store_put(struct region_store *s, struct region *r)
{
	region_end(r);
	(void)os_discard(r->generations, whole_pages(r->arrays_bytes));
	/* relaxed: counter */
	u64_sub_relaxed(&s->bytes, sizeof(*r) + r->arrays_bytes);
	push(stack_of(s, r->slices), r);
}

/* ---- the end ---- */

/* Of those that are idle, which are all. */
static bool unmap_arrays(struct atomic_ptr *stack)
{
	struct region *next;
	bool done = true;

	for (struct region *r = take_all(stack); r; r = next) {
		next = r->next_idle;
		if (done && !os_unmap(r->generations, r->arrays_bytes))
			continue;
		done = false;
		push(stack, r);
	}
	return done;
}

static bool unmap_chunks(struct region_store *s)
{
	struct chunk *chunk;

	/* relaxed, both: nobody else is there */
	while ((chunk = ptr_load_relaxed(&s->chunk)) != NULL) {
		struct chunk *next = chunk->next;

		if (os_unmap(chunk, sizeof(*chunk)))
			return false;
		ptr_store_relaxed(&s->chunk, next); /* relaxed: as above */
	}
	return true;
}

bool region_store_clear(struct region_store *s)
{
	bool done = true;

	for (int i = 0; i < REGION_STORE_SIZES; i++)
		done &= unmap_arrays(&s->idle[i]);
	return done && unmap_chunks(s);
}
