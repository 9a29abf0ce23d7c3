/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See cache_ghost.h. */
#include "cache_ghost.h"

#include <stddef.h>
#include <string.h>

#include "os.h"

enum {
	LEAST_PER_ENTRY = 3,
	MOST_PER_ENTRY = 5,
	LEAST_BUCKETS = 8,
};

#define MOST_BUCKETS (UINT64_C(1) << 32)

/* The high half, folded in between, brings every bit of the key into the upper
 * bits: keys with a pattern spread evenly. */
static uint64_t hash(uint64_t key)
{
	uint64_t h = key * 0x9e3779b97f4a7c15u;

	return (h ^ h >> 32) * 0xbf58476d1ce4e5b9u;
}

static uint64_t tag_of(uint64_t h)
{
	uint64_t tag = (uint32_t)h >> (32 - GHOST_TAG_BITS);

	return tag ? tag : 1;
}

/* By the high half, which the tag is not made of. */
static struct ghost_bucket *bucket_of(const struct ghost *g, uint64_t h)
{
	return &g->bucket[(h >> 32) * g->buckets >> 32];
}

void ghost_clear(struct ghost *g)
{
	os_free(g->bucket);
	*g = (struct ghost){ .bucket = NULL };
}

void ghost_reserve(struct ghost *g, uint64_t entries)
{
	uint64_t buckets = entries * MOST_PER_ENTRY / GHOST_WAYS;
	struct ghost_bucket *bigger;

	if (g->buckets >= LEAST_BUCKETS &&
	    g->buckets * GHOST_WAYS >= entries * LEAST_PER_ENTRY)
		return;
	if (buckets < LEAST_BUCKETS)
		buckets = LEAST_BUCKETS;
	if (buckets > MOST_BUCKETS)
		return;
	bigger = os_calloc(buckets, sizeof(*bigger));
	if (!bigger)
		return;
	ghost_clear(g);
	*g = (struct ghost){ .bucket = bigger, .buckets = buckets };
}

void ghost_put(struct ghost *g, uint64_t key, struct ghost_note note)
{
	uint64_t h = hash(key);
	struct ghost_note *list;

	if (!g->bucket)
		return;
	list = bucket_of(g, h)->note;
	memmove(list + 1, list, (GHOST_WAYS - 1) * sizeof(*list));
	note.tag = tag_of(h);
	list[0] = note;
}

/* The newest with that tag; GHOST_WAYS: none.  Looks at all of them: where it
 * is nobody can guess, nor can the processor. */
static unsigned find(const struct ghost_note *list, uint64_t tag)
{
	unsigned at = GHOST_WAYS;

	for (unsigned i = GHOST_WAYS; i-- > 0;)
		at = list[i].tag == tag ? i : at;
	return at;
}

bool ghost_take(struct ghost *g, uint64_t key, struct ghost_note *ret_note)
{
	uint64_t h = hash(key);
	struct ghost_note *list;
	unsigned i;

	if (!g->bucket)
		return false;
	list = bucket_of(g, h)->note;
	i = find(list, tag_of(h));
	if (i == GHOST_WAYS)
		return false;
	*ret_note = list[i];
	memmove(list + i, list + i + 1, (GHOST_WAYS - 1 - i) * sizeof(*list));
	list[GHOST_WAYS - 1].tag = 0;
	return true;
}

void ghost_expect(const struct ghost *g, uint64_t key)
{
	if (g->bucket)
		__builtin_prefetch(bucket_of(g, hash(key)), 1);
}

uint64_t ghost_bytes(const struct ghost *g)
{
	return g->buckets * sizeof(*g->bucket);
}
