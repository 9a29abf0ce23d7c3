/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See indexes.h. */
#include "indexes.h"

#include <string.h>

#include "cache_slots.h"

struct cache_index the_index;
static struct cache_slots slots;
bool indexes_late_change;
bool indexes_same_version;

void indexes_open(void)
{
	memset(&the_index, 0, sizeof(the_index));
	memset(&slots, 0, sizeof(slots));
	explore_check(slots_init(&slots));
	explore_check(cache_index_init(&the_index, slots.groups));
}

void indexes_check(void)
{
	explore_check(cache_index_is_valid(&the_index));
}

/* ---- who changes it ---- */

static void *value_of(uint64_t key, uint64_t version)
{
	return (void *)(uintptr_t)(key << 32 | version);
}

void indexes_fill(struct cache_entry *e, uint64_t key)
{
	uint64_t version = entry_version(u64_load_relaxed(&e->word));

	if (indexes_same_version && version)
		u64_store_relaxed(&e->word, --version << ENTRY_VERSION_SHIFT);
	if (!indexes_late_change)
		cache_index_change(&the_index);
	entry_fill(e, key, value_of(key, version + 1), 1);
	if (indexes_late_change)
		cache_index_change(&the_index);
	entry_begin(e, 0, 0);
}

struct cache_entry *indexes_make(uint64_t key)
{
	struct cache_entry *e = slots_get(&slots);

	indexes_fill(e, key);
	return e;
}

void indexes_insert_as_if(struct cache_entry *e, uint32_t in)
{
	uint32_t entries = the_index.entries;

	the_index.entries = in - 1;
	cache_index_insert(&the_index, e);
	the_index.entries = entries + 1;
}

void indexes_insert(struct cache_entry *e)
{
	indexes_insert_as_if(e, 0);
}

struct cache_entry *indexes_add(uint64_t key)
{
	struct cache_entry *e = indexes_make(key);

	indexes_insert(e);
	return e;
}

bool indexes_remove(struct cache_entry *e)
{
	if (!entry_kill(e))
		return false;
	cache_index_remove(&the_index, e);
	return true;
}

void indexes_use_again(struct cache_entry *e, uint64_t key)
{
	if (!indexes_remove(e))
		return;
	indexes_fill(e, key);
	indexes_insert(e);
}

/* ---- who looks up ---- */

/* As find_and_pin() in cache_get.c. */
static struct cache_entry *pin(uint64_t key, uint64_t *ret_word)
{
	struct index_ended ended = { .entry = NULL };
	struct cache_entry *e;

	do {
		e = cache_index_find(&the_index, key, ret_word);
		if (!e || entry_pin(e, ret_word))
			return e;
	} while (index_ended_anew(&ended, e, *ret_word));
	return NULL;
}

bool indexes_get(uint64_t key)
{
	uint64_t word;
	struct cache_entry *e = pin(key, &word);
	struct departed d;

	if (!e)
		return false;
	explore_check(entry_key(e) == key);
	explore_check(ptr_load_relaxed(&e->value) ==
		      value_of(key, entry_version(word)));
	explore_check(entry_unpin(e, entry_version(word), &d) != UNPIN_STALE);
	return true;
}

void indexes_find(uint64_t key)
{
	explore_check(indexes_get(key));
}

/* As peek_at_once() in cache_get.c. */
void indexes_peek(uint64_t key)
{
	uint64_t word;
	struct cache_entry *e = cache_index_find_first(&the_index, key, &word);
	void *value = e ? cache_index_value_first(e, word) : NULL;

	explore_check(!value ||
		      value == value_of(key, entry_version(word)));
}

/* As find_and_look() in cache_get.c. */
void *indexes_look(uint64_t key)
{
	struct index_ended ended = { .entry = NULL };
	struct cache_entry *e;
	void *value;
	uint64_t word;

	do {
		e = cache_index_find(&the_index, key, &word);
		value = e ? cache_index_value(e, word) : NULL;
		if (!e || value)
			return value;
	} while (index_ended_anew(&ended, e, word));
	return NULL;
}

struct cache_entry *indexes_open_four(void)
{
	struct cache_entry *e;

	indexes_open();
	e = indexes_make(KEY_100);
	indexes_insert_as_if(e, 1);
	explore_check(indexes_remove(e));
	return e;
}
