/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See cache_ghost.h. */
#include "cache_ghost.h"

#include <stddef.h>
#include <string.h>

#include "os.h"

enum {
	MOST_PER_ENTRY = 5,
};

#define MOST_BUCKETS (UINT64_C(1) << 32)

static uint64_t tag_of(uint64_t h)
{
	uint64_t tag = (uint32_t)h >> (32 - GHOST_TAG_BITS);

	return tag ? tag : 1;
}

void ghost_clear(struct ghost *g)
{
	os_free(g->bucket);
	*g = (struct ghost){ .bucket = NULL };
}

void ghost_grow(struct ghost *g, uint64_t entries)
{
	uint64_t buckets = entries * MOST_PER_ENTRY / GHOST_WAYS;
	struct ghost_bucket *bigger;

	if (buckets < GHOST_LEAST_BUCKETS)
		buckets = GHOST_LEAST_BUCKETS;
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
	uint64_t h = ghost_hash(key);
	struct ghost_note *list;

	if (!g->bucket)
		return;
	list = ghost_bucket_of(g, h)->note;
	/* unrolled, here and below: a call would cost more */
#pragma GCC unroll 8
	for (unsigned i = GHOST_WAYS - 1; i > 0; i--)
		list[i] = list[i - 1];
	note.tag = tag_of(h);
	list[0] = note;
}

/* The newest with that tag; GHOST_WAYS: none.  Looks at all of them: where it
 * is nobody can guess, nor can the processor. */
static unsigned find(const struct ghost_note *list, uint64_t tag)
{
	unsigned at = GHOST_WAYS;

#pragma GCC unroll 8
	for (unsigned i = GHOST_WAYS; i-- > 0;)
		at = list[i].tag == tag ? i : at;
	return at;
}

bool ghost_take(struct ghost *g, uint64_t key, struct ghost_note *ret_note)
{
	uint64_t h = ghost_hash(key);
	struct ghost_note *list;
	unsigned i;

	if (!g->bucket)
		return false;
	list = ghost_bucket_of(g, h)->note;
	i = find(list, tag_of(h));
	if (i == GHOST_WAYS)
		return false;
	*ret_note = list[i];
	memmove(list + i, list + i + 1, (GHOST_WAYS - 1 - i) * sizeof(*list));
	list[GHOST_WAYS - 1].tag = 0;
	return true;
}
