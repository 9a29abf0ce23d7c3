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
#define ARRAYS_INSIDE PAGE_BYTES	/* stand behind their struct */
#endif
enum { CHUNK_BYTES = CHUNK_REGIONS * sizeof(struct region) };

/* Nothing of it is ever given back alone. */
struct chunk {
	_Alignas(CACHE_LINE) struct chunk *next;
	struct atomic_u32 used;		/* bytes, or more if it is full */
	_Alignas(CACHE_LINE) char bytes[CHUNK_BYTES];
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

static void push_each(struct atomic_ptr *stack, struct region *rest)
{
	struct region *next;

	for (; rest; rest = next) {
		next = rest->next_idle;
		push(stack, rest);
	}
}

/* As it was; but one by one if others came meanwhile. */
static void put_rest_back(struct atomic_ptr *stack, struct region *rest)
{
	void *nobody = NULL;

	/* relaxed: the links were released by who pushed them, and all changes
	 * since are read-modify-writes */
	if (rest && !ptr_cas_strong_relaxed(stack, &nobody, rest))
		push_each(stack, rest);
}

/* Mostly the first one will do: nearly all in a stack are of one number. */
static struct region *get_idle(struct region_store *s, uint32_t slices)
{
	struct atomic_ptr *stack = stack_of(s, slices);
	struct region *found = take_all(stack), *next;

	for (; found && found->slices != slices; found = next) {
		next = found->next_idle;
		push(stack, found);
	}
	if (found)
		put_rest_back(stack, found->next_idle);
	return found;
}

/* ---- structs ---- */

/* Who does not fit leaves it full for all: so `used` stays small. */
static void *carve(struct chunk *chunk, uint32_t bytes)
{
	uint32_t at = CHUNK_BYTES;

	/* relaxed, both: bytes that nobody else gets */
	if (chunk && u32_load_relaxed(&chunk->used) < CHUNK_BYTES)
		at = u32_add_relaxed(&chunk->used, bytes);
	return at + bytes <= CHUNK_BYTES ? chunk->bytes + at : NULL;
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

/* With room for its arrays, or none.  Retries only when others had all of a
 * chunk meanwhile. */
static struct region *new_struct(struct region_store *s, size_t arrays_bytes)
{
	size_t bytes = (sizeof(struct region) + arrays_bytes + CACHE_LINE - 1) /
		       CACHE_LINE * CACHE_LINE;
	struct region *r;
	void *last;

	do {
		/* acquire <- add_chunk() */
		last = ptr_load_acquire(&s->chunk);
		r = carve(last, (uint32_t)bytes);
	} while (!r && add_chunk(s, last));
	return r;
}

/* ---- arrays ---- */

static size_t whole_pages(size_t bytes)
{
	return (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

static bool are_inside(size_t arrays_bytes)
{
	return arrays_bytes <= ARRAYS_INSIDE;
}

static struct region *get_new(struct region_store *s, uint32_t slices,
			      uint32_t taken)
{
	size_t bytes = region_arrays_bytes(slices);
	bool inside = are_inside(bytes);
	void *arrays = inside ? NULL : os_map(bytes, CACHE_LINE);
	struct region *r = NULL;

	if (arrays || inside)
		r = new_struct(s, inside ? bytes : 0);
	if (r)
		region_init(r, inside ? r + 1 : arrays, slices, taken);
	else if (arrays)
		os_unmap(arrays, bytes);
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

/* Without their backing the arrays hold zeros; wrong releases may look on. */
void region_store_put(struct region_store *s, struct region *r)
{
	region_end(r);
	if (are_inside(r->arrays_bytes) ||
	    os_discard(r->generations, whole_pages(r->arrays_bytes)))
		region_zero_arrays(r);
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
		if (are_inside(r->arrays_bytes) ||
		    (done && !os_unmap(r->generations, r->arrays_bytes)))
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
