/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See cache_slots.h. */
#include "cache_slots.h"

#include <stddef.h>

#include "os.h"

#ifndef SLOTS_CHUNK_FIRST
#define SLOTS_CHUNK_FIRST 31
#endif
enum { CHUNK_MANY = 8192, CHUNK_MOST = 16383 /* fills a huge page */ };

struct cache_chunk {
	struct cache_chunk *next;
	struct cache_record *records;	/* behind the entries */
	uint64_t count;			/* of each */
	_Alignas(CACHE_LINE) struct cache_entry entries[];
};

void slots_make(struct cache_slots *s)
{
	/* relaxed: under the lock */
	uint64_t count = u64_load_relaxed(&s->made) / 2;
	struct cache_chunk *chunk;
	size_t bytes;

	count = count < SLOTS_CHUNK_FIRST ? SLOTS_CHUNK_FIRST : count;
	count = 2 * count >= CHUNK_MANY ? CHUNK_MOST : count;
	bytes = sizeof(*chunk) + count * (sizeof(struct cache_entry) +
					  sizeof(struct cache_record));
	chunk = os_calloc(1, bytes);
	if (!chunk)
		return;
	chunk->count = count;
	chunk->next = ptr_load_relaxed(&s->chunks); /* relaxed: the lock's */
	chunk->records = (struct cache_record *)(chunk->entries + count);
	/* release -> slots_own() */
	ptr_store_release(&s->chunks, chunk);
	for (uint64_t i = count; i-- > 0;) {
		slots_put_entry(s, &chunk->entries[i]);
		slots_put_record(s, &chunk->records[i]);
	}
	/* relaxed, both: figures */
	u64_add_relaxed(&s->made, count);
	u64_add_relaxed(&s->bytes, bytes);
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
	s->sent_last->next = s->records;
	s->records = s->sent;
	s->sent = NULL;
	/* relaxed: the next batch is sent under the lock, by the queue */
	u32_store_relaxed(&s->arrived, 0);
	s->sending = false;
}

bool slots_own(const struct cache_slots *s, const struct cache_entry *e)
{
	/* acquire <- slots_make() */
	const struct cache_chunk *chunk = ptr_load_acquire(&s->chunks);

	while (chunk && (uintptr_t)e - (uintptr_t)chunk->entries >=
				chunk->count * sizeof(*e))
		chunk = chunk->next;
	return chunk != NULL;
}

void slots_clear(struct cache_slots *s)
{
	struct cache_chunk *chunk, *next;

	/* relaxed, both: nobody else is there */
	for (chunk = ptr_load_relaxed(&s->chunks); chunk; chunk = next) {
		next = chunk->next;
		os_free(chunk);
	}
	ptr_store_relaxed(&s->chunks, NULL);
}
