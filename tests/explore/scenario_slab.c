/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The slab: an object has one owner, and its contents travel with it. */
#include "explore.h"

#include <string.h>

#include "slab.h"

enum { OBJECTS = 3 };

static struct slab slab;
static struct slab_item *object[OBJECTS];
static struct explore_cell contents[2 * OBJECTS];

static void make_slab(void)
{
	memset(&slab, 0, sizeof(slab));
	slab.object_bytes = sizeof(struct slab_item);
	slab.base_bits = 8;
}

/* The first of them is out, thread 1 holds it. */
static void two_are_free(void)
{
	make_slab();
	for (unsigned i = 0; i < OBJECTS; i++)
		object[i] = slab_get(&slab);
	for (unsigned i = OBJECTS; i-- > 1;)
		slab_put(&slab, object[i]);
}

static struct slab_item *get(unsigned thread)
{
	struct slab_item *item = slab_get(&slab);

	explore_check(item && item->number < 2 * OBJECTS);
	explore_write(&contents[item->number], thread + 1);
	explore_pause();
	explore_check(explore_read(&contents[item->number]) == thread + 1);
	return item;
}

/* As with regions: the list starts as before, but goes on differently. */
static void get_put_get(unsigned thread)
{
	struct slab_item *first = get(thread);
	struct slab_item *second = get(thread);

	if (thread == 1) {
		slab_put(&slab, object[0]);
		slab_put(&slab, first);
	}
	explore_check(explore_read(&contents[second->number]) == thread + 1);
}

/* Every number that ever was is held or on the list, once. */
static void count_free(unsigned held)
{
	unsigned used = u32_load_relaxed(&slab.used);
	unsigned n = held;

	while (u64_load_relaxed(&slab.head) & 0xfffffff) {
		slab_get(&slab);
		explore_check(++n <= used);
	}
	explore_check(n == used);
}

static void three_are_held(void)
{
	count_free(3);
}

static void all_are_free(void)
{
	count_free(0);
}

static const struct explore_twin list_twins[] = {
	EXPLORE_TWIN_KEEP("tag left out", "get_recycled", "cas",
			  ~(((uint64_t)1 << SLAB_NUMBER_BITS) - 1)),
	EXPLORE_TWIN("blind get", BLIND, "get_recycled", "cas"),
	EXPLORE_TWIN("blind put", BLIND, "slab_put", "cas"),
	EXPLORE_TWIN("link left out", SKIP, "slab_put", "store"),
	{ .name = NULL },
};

/* One free object for two, and the first of all chunks. */
static void get_and_put(unsigned thread)
{
	slab_put(&slab, get(thread));
}

static const struct explore_twin hand_on_twins[] = {
	EXPLORE_TWIN("relaxed put", RELAX, "slab_put", "cas"),
	EXPLORE_TWIN("relaxed get", RELAX, "get_recycled", "cas"),
	EXPLORE_TWIN("number given twice", BLIND, "get_unused", "cas"),
	EXPLORE_TWIN("chunk made twice", BLIND, "chunk_make", "cas"),
	{ .name = NULL },
};

const struct explore_scenario explore_slab[] = {
	{ .name = "slab: get against get, put, put", .threads = 2,
	  .setup = two_are_free, .body = get_put_get,
	  .post = three_are_held, .twins = list_twins },
	{ .name = "slab: first chunk, contents handed on", .threads = 3,
	  .setup = make_slab, .body = get_and_put, .post = all_are_free,
	  .twins = hand_on_twins },
	{ .name = NULL },
};
