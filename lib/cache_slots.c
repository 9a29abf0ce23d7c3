/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See cache_slots.h. */
#include "cache_slots.h"

#include <stddef.h>

#include "assert.h"
#include "os.h"

#ifndef SLOTS_CHUNK_FIRST
#define SLOTS_CHUNK_FIRST 31
#endif
enum { CHUNK_MANY = 8192, CHUNK_MOST = 16383 /* fills a huge page */ };

struct cache_chunk {
	struct cache_chunk *next;
	struct cache_record *records;	/* behind the entries */
	_Alignas(CACHE_LINE) struct cache_entry entries[];
};

static void put_entry(struct cache_slots *s, struct cache_entry *e)
{
	/* release: a dead entry's value has changed (E5) */
	ptr_store_release(&e->value, s->entries);
	s->entries = e;
}

static void put_record(struct cache_slots *s, struct cache_record *r)
{
	r->next = s->records;
	s->records = r;
}

static void chunk_make(struct cache_slots *s)
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
	chunk->next = s->chunks;
	chunk->records = (struct cache_record *)(chunk->entries + count);
	s->chunks = chunk;
	for (uint64_t i = count; i-- > 0;) {
		put_entry(s, &chunk->entries[i]);
		put_record(s, &chunk->records[i]);
	}
	/* relaxed, both: figures */
	u64_add_relaxed(&s->made, count);
	u64_add_relaxed(&s->bytes, bytes);
}

struct cache_entry *slots_get(struct cache_slots *s)
{
	struct cache_entry *e;
	struct cache_record *r;

	if (!s->entries || !s->records)
		chunk_make(s);
	e = s->entries;
	r = s->records;
	if (!e || !r)
		return NULL;
	s->entries = ptr_load_relaxed(&e->value); /* relaxed: see above */
	s->records = r->next;
	ptr_store_relaxed(&e->record, r); /* relaxed: see entry_record() */
	r->entry = e;
	/* It may have been away for a while: for the next to find it near. */
	__builtin_prefetch(s->records);
	return e;
}

void slots_put(struct cache_slots *s, struct cache_entry *e)
{
	put_record(s, entry_record(e));
	put_entry(s, e);
}

void slots_retire(struct cache_slots *s, struct cache_entry *e)
{
	struct cache_record *r = entry_record(e);

	seg_assert(entry_state(entry_look(e)) == ENTRY_DEAD);
	r->key = entry_key(e);
	/* relaxed: it does not change any more */
	r->value = ptr_load_relaxed(&e->value);
	r->weight = entry_weight(e);
	r->next = s->retired;
	if (!s->retired)
		s->retired_last = r;
	s->retired = r;
	s->retired_count++;
	put_entry(s, e);
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

void slots_clear(struct cache_slots *s)
{
	while (s->chunks) {
		struct cache_chunk *chunk = s->chunks;

		s->chunks = chunk->next;
		os_free(chunk);
	}
}
