/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See cache_slots.h. */
#include "cache_slots.h"

#include <stddef.h>

#include "assert.h"
#include "os.h"

#ifndef SLOTS_CHUNK_FIRST
#define SLOTS_CHUNK_FIRST 31
#endif
/*
 * Look-ups read the first of an entry's two lines.  If that were the even line
 * of each pair, only half of a cache's sets would hold any: so after every few
 * entries there is a line to spare.  The largest chunk fills a huge page.
 */
enum { BLOCK = 32, CHUNK_MANY = 8192, CHUNK_MOST = 16128 };

struct cache_chunk {
	struct cache_chunk *next;
	_Alignas(CACHE_LINE) char memory[];
};

static size_t offset_of(uint64_t number)
{
	return number * sizeof(struct cache_entry) +
	       number / BLOCK * CACHE_LINE;
}

static void chunk_make(struct cache_slots *s)
{
	/* relaxed: under the lock */
	uint64_t count = u64_load_relaxed(&s->made) / 2;
	struct cache_chunk *chunk;
	size_t bytes;

	count = count < SLOTS_CHUNK_FIRST ? SLOTS_CHUNK_FIRST : count;
	count = 2 * count >= CHUNK_MANY ? CHUNK_MOST : count;
	bytes = sizeof(*chunk) + offset_of(count);
	chunk = os_calloc(1, bytes);
	if (!chunk)
		return;
	chunk->next = s->chunks;
	s->chunks = chunk;
	for (uint64_t i = count; i-- > 0;)
		slots_put(s, (void *)(chunk->memory + offset_of(i)));
	/* relaxed, both: figures */
	u64_add_relaxed(&s->made, count);
	u64_add_relaxed(&s->bytes, bytes);
}

struct cache_entry *slots_get(struct cache_slots *s)
{
	struct cache_entry *e;

	if (!s->free)
		chunk_make(s);
	e = s->free;
	if (!e)
		return NULL;
	s->free = e->next;
	/* It has been away for a while: for the next one to find it near. */
	if (s->free) {
		__builtin_prefetch(s->free);
		__builtin_prefetch(&s->free->newer);
	}
	return e;
}

void slots_put(struct cache_slots *s, struct cache_entry *e)
{
	e->next = s->free;
	s->free = e;
}

void slots_retire(struct cache_slots *s, struct cache_entry *e)
{
	seg_assert(entry_state(entry_look(e)) == ENTRY_DEAD);
	e->next = s->retired;
	if (!s->retired)
		s->retired_last = e;
	s->retired = e;
	s->retired_count++;
}

bool slots_send(struct cache_slots *s, uint64_t least)
{
	if (s->sending || !s->retired || s->retired_count < least)
		return false;
	s->sending = true;
	s->sent = s->retired;
	s->sent_last = s->retired_last;
	s->retired = NULL;
	s->retired_count = 0;
	return true;
}

void slots_arrive(struct cache_slots *s)
{
	/* release -> slots_receive(): nobody looks at the batch any more */
	u32_store_release(&s->arrived, 1);
}

void slots_receive(struct cache_slots *s)
{
	/* acquire <- slots_arrive() */
	if (!u32_load_acquire(&s->arrived))
		return;
	s->sent_last->next = s->free;
	s->free = s->sent;
	s->sent = NULL;
	/* relaxed: the next batch is sent under the lock, by the queue */
	u32_store_relaxed(&s->arrived, 0);
	s->sending = false;
}

void slots_clear(struct cache_slots *s)
{
	while (s->chunks) {
		struct cache_chunk *chunk = s->chunks;

		s->chunks = chunk->next;
		os_free(chunk);
	}
}
