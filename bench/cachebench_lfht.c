/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A bare look-up in liburcu's lock-free hash table, bp flavour. */
#include <stdlib.h>
#include <urcu/urcu-bp.h>
#include <urcu/rculfhash.h>

#include "cachebench.h"

struct lfht_entry {
	struct cds_lfht_node node;
	uint64_t key;
	void *value;
};

static int lfht_match(struct cds_lfht_node *node, const void *key)
{
	const struct lfht_entry *entry =
		caa_container_of(node, struct lfht_entry, node);

	return entry->key == *(const uint64_t *)key;
}

static inline const void *do_hit(void *state, uint64_t key)
{
	struct cds_lfht_iter iter;
	struct cds_lfht_node *node;
	const void *value = NULL;

	urcu_bp_read_lock();
	cds_lfht_lookup(state, bench_mix(key), lfht_match, &key, &iter);
	node = cds_lfht_iter_get_node(&iter);
	if (node)
		value = caa_container_of(node, struct lfht_entry, node)->value;
	urcu_bp_read_unlock();
	return value;
}

#define LOOPS_OF_A_TABLE
#include "cachebench_loops.h"

static void lfht_put(void *state, uint64_t key)
{
	struct lfht_entry *entry = malloc(sizeof(*entry));
	struct cds_lfht_node *there;

	if (!entry)
		bench_die("malloc");
	cds_lfht_node_init(&entry->node);
	entry->key = key;
	entry->value = entry;
	urcu_bp_read_lock();
	there = cds_lfht_add_unique(state, bench_mix(key), lfht_match, &key,
				    &entry->node);
	urcu_bp_read_unlock();
	if (there != &entry->node)
		free(entry);
}

/* As many buckets as entries, made in advance; it need not grow. */
static void *lfht_setup(const struct bench_setup *setup)
{
	unsigned long buckets = 1;
	struct cds_lfht *table;

	while (buckets < setup->entries)
		buckets *= 2;
	table = cds_lfht_new_flavor(buckets, 1, 0, 0, &urcu_bp_flavor, NULL);
	if (!table)
		bench_die("cds_lfht_new");
	return table;
}

static void lfht_teardown(void *state)
{
	struct lfht_entry *gone = NULL, *entry;
	struct cds_lfht_iter iter;
	struct cds_lfht_node *node;

	urcu_bp_read_lock();
	cds_lfht_for_each(state, &iter, node) {
		entry = caa_container_of(node, struct lfht_entry, node);
		cds_lfht_del(state, node);
		entry->value = gone;
		gone = entry;
	}
	urcu_bp_read_unlock();
	urcu_bp_synchronize_rcu();
	cds_lfht_destroy(state, NULL);
	while (gone) {
		entry = gone;
		gone = gone->value;
		free(entry);
	}
}

const struct bench_subject bench_lfht = {
	.name = "cds_lfht",
	.loops = 1 << LOOP_HIT,
	.setup = lfht_setup,
	.teardown = lfht_teardown,
	.put = lfht_put,
	.loop = { [LOOP_HIT] = loop_hit },
};
