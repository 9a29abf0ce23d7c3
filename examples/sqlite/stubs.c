/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See stubs.h. */
#include "stubs.h"

#include <stdlib.h>

enum { FIRST_BUCKETS = 64, FIRST_CHUNKS = 4, DEAD_AT_LEAST = 64 };

static void list_init(struct stub_list *list)
{
	list->end.older = list->end.newer = &list->end;
}

bool stubs_init(struct tenant *t)
{
	t->mask = FIRST_BUCKETS - 1;
	t->bucket = calloc(FIRST_BUCKETS, sizeof(struct stub *));
	list_init(&t->resting);
	list_init(&t->left);
	return t->bucket != NULL;
}

void stubs_end(struct tenant *t)
{
	for (uint32_t i = 0; i < t->chunks; i++)
		seg_release(t->shared->pool, t->chunk[i]);
	free(t->chunk);
	free(t->bucket);
}

/* Without memory it stays as it is: slower. */
static void double_buckets(struct tenant *t)
{
	struct stub **old = t->bucket, *s, *next;
	uint32_t before = t->mask + 1;
	struct stub **more = calloc((size_t)before * 2, sizeof(*more));

	if (!more)
		return;
	t->bucket = more;
	t->mask = before * 2 - 1;
	for (uint32_t i = 0; i < before; i++)
		for (s = old[i]; s; s = next) {
			next = s->next;
			stub_link(t, s, s->number);
		}
	free(old);
}

/* The array of arrays has room for as many as the next power of two. */
static bool grow_list(struct tenant *t)
{
	uint32_t n = t->chunks;
	struct stub **list;

	if (n >= FIRST_CHUNKS ? (n & (n - 1)) : n)
		return true;
	list = realloc(t->chunk, sizeof(*list) *
				 (n ? (size_t)n * 2 : FIRST_CHUNKS));
	if (list)
		t->chunk = list;
	return list != NULL;
}

static void add_chunk(struct tenant *t, const struct seg_alloc_options *how)
{
	struct stub *chunk;

	if (!grow_list(t))
		return;
	chunk = seg_alloc_with(t->shared->pool, SEG_MIN_BYTES, how);
	if (!chunk)
		return;
	t->chunk[t->chunks++] = chunk;
	for (uint32_t i = STUB_CHUNK; i--;) {
		chunk[i] = (struct stub){ .next = t->free };
		t->free = &chunk[i];
	}
}

/* Whether its page was evicted; asking is a hit, so not often. */
static bool is_dead(struct stub *s)
{
	struct seg_pin pin;

	if (s->state != STUB_LEFT)
		return false;
	if (seg_pin_again(&s->pin, &pin))
		return true;
	seg_unpin(&pin);
	return false;
}

/* Frees the stubs of pages that others have evicted, if these are many. */
static void bury_dead(struct tenant *t)
{
	uint32_t pages = tenant_pages(t);

	if (t->stubs < pages || t->stubs - pages < pages + DEAD_AT_LEAST)
		return;
	for (uint32_t i = 0; i < t->chunks * STUB_CHUNK; i++) {
		struct stub *s = stub_at(t, i);

		if (!is_dead(s))
			continue;
		stub_unlink(t, s);
		stub_give(t, s);
	}
}

struct stub *stub_take(struct tenant *t, const struct seg_alloc_options *how)
{
	struct stub *s;

	if (!t->free)
		bury_dead(t);
	if (!t->free)
		add_chunk(t, how);
	s = t->free;
	if (!s)
		return NULL;
	t->free = s->next;
	if (t->stubs++ > t->mask)
		double_buckets(t);
	return s;
}

void stub_link(struct tenant *t, struct stub *s, uint32_t number)
{
	struct stub **bucket = &t->bucket[number & t->mask];

	s->number = number;
	s->next = *bucket;
	*bucket = s;
}

void stub_unlink(struct tenant *t, struct stub *s)
{
	struct stub **at = &t->bucket[s->number & t->mask];

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
}

void stub_give(struct tenant *t, struct stub *s)
{
	if (s->state == STUB_LEFT)
		stub_remove(&t->left, s);
	if (s->resting)
		stub_remove(&t->resting, s);
	s->resting = 0;
	s->state = STUB_FREE;
	s->next = t->free;
	t->free = s;
	t->stubs--;
}
