/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See cache_slots.h. */
#include "cache_slots.h"

#include <stddef.h>

#include "os.h"

#define TABLE_BYTES (CACHE_GROUPS * sizeof(struct cache_group *))

enum { PAGE = 4096 };

bool slots_init(struct cache_slots *s)
{
	s->groups = os_map(TABLE_BYTES, PAGE);
	return s->groups != NULL;
}

static bool group_make(struct cache_slots *s, uint64_t number)
{
	struct cache_group *g;

	if (number >= CACHE_GROUPS)
		return false;
	if (s->groups[number])
		return true;
	g = os_map(CACHE_GROUP_BYTES, CACHE_GROUP_BYTES);
	if (!g)
		return false;
	/* Both are advice. */
	if (number)
		(void)os_use_huge_pages(g, CACHE_GROUP_BYTES);
	else
		(void)os_use_small_pages(g, CACHE_GROUP_BYTES);
	/* Behind all records, so of the first group it would back a page. */
	if (number)
		g->first = (uint32_t)number << CACHE_GROUP_BITS;
	s->groups[number] = g;
	return true;
}

/* The very first is nobody's: its number says that there is none. */
struct cache_entry *slots_make(struct cache_slots *s)
{
	/* relaxed: under the lock */
	uint64_t at = u64_load_relaxed(&s->made) + 1;
	uint64_t group = at / CACHE_GROUP_ENTRIES;

	if (!group_make(s, group))
		return NULL;
	/* release -> slots_own() */
	u64_store_release(&s->made, at);
	return &s->groups[group]->entry[at % CACHE_GROUP_ENTRIES];
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

bool slots_own(const struct cache_slots *s, const struct cache_entry *e)
{
	/* acquire <- slots_make(): the groups */
	uint64_t made = u64_load_acquire(&s->made);

	for (uint64_t i = 0; made && i <= made / CACHE_GROUP_ENTRIES; i++)
		if (s->groups[i] == cache_group_of(e))
			return true;
	return false;
}

/* The pages that so many bytes from there on lie in. */
static uint64_t whole_pages(uint64_t at, uint64_t bytes)
{
	return (at + bytes + PAGE - 1) / PAGE * PAGE - at / PAGE * PAGE;
}

uint64_t slots_bytes(const struct cache_slots *s)
{
	uint64_t made = u64_load_relaxed(&s->made); /* relaxed: a figure */
	uint64_t groups = made / CACHE_GROUP_ENTRIES + 1;
	uint64_t table = whole_pages(0, groups * sizeof(*s->groups));

	if (!made)
		return 0;
	if (groups > 1)
		return table + groups * CACHE_GROUP_BYTES;
	return table +
	       whole_pages(0, (made + 1) * sizeof(struct cache_entry)) +
	       whole_pages(offsetof(struct cache_group, record),
			   (made + 1) * sizeof(struct cache_record));
}

/* The last first: what is left begins with the first group. */
static bool unmap_groups(struct cache_slots *s)
{
	uint32_t count = 0;

	while (count < CACHE_GROUPS && s->groups[count])
		count++;
	for (; count; count--) {
		if (os_unmap(s->groups[count - 1], CACHE_GROUP_BYTES))
			return false;
		s->groups[count - 1] = NULL;
	}
	return true;
}

bool slots_clear(struct cache_slots *s)
{
	if (!s->groups)
		return true;
	s->free = NULL;
	u64_store_relaxed(&s->made, 0);	/* relaxed: nobody else is there */
	if (!unmap_groups(s) || os_unmap(s->groups, TABLE_BYTES))
		return false;
	s->groups = NULL;
	return true;
}
