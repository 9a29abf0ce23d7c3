/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where segments come from on a machine with several memory nodes, and how many
 * reads of a cache's pages cross from one node to another.  Counts, not times:
 * one thread that goes from node to node, so each run on a machine gives the
 * same.  Where there is one node, the machine is one that a test says.  Prints
 * Markdown; README.md says what the cases and columns are.
 */
#include <inttypes.h>
#include <numa.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"
#include "seg.h"
#include "topology.h"

enum {
	NODES_MOST = 16,
	SEGMENTS = 128,		/* from each node */
	SEGMENT_BYTES = 16384,
	REGION_BYTES = 1 << 20,
	PAGES = 64,
	ROUNDS = 64,		/* each page is read so often */
	AFTER = 4,		/* migrate_after */
};

/* Nodes with memory; the first of them have processors, too. */
static struct {
	int node[NODES_MOST];
	unsigned count, running;
	bool real;
} m;

static struct seg_budget *budget;
static struct seg_pool *pool;

static void must(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "bench/numa: %s\n", what);
	exit(1);
}

/* --------------------------------------------------------------- machine */

static bool run_at(int node)
{
	if (m.real)
		return numa_run_on_node(node) == 0;
	machine_run_at(node);
	return true;
}

static void add_node(int node)
{
	unsigned at = m.count++;

	if (m.real && !run_at(node)) {
		m.node[at] = node;
		return;
	}
	m.node[at] = m.node[m.running];
	m.node[m.running++] = node;
}

/* Four nodes with processors and one without. */
static void invent_machine(void)
{
	static const int nodes[] = { 0, 1, 2, 3, 4 };

	machine_begin(nodes, 5);
	for (int i = 0; i < 4; i++) {
		machine_set_distance(i, 4, 30);
		machine_set_distance(4, i, 30);
	}
	memcpy(m.node, nodes, sizeof(nodes));
	m.count = 5;
	m.running = 4;
}

static void find_machine(void)
{
	topology_check();
	m.real = topology_has_many();
	if (!m.real) {
		invent_machine();
		return;
	}
	for (unsigned i = 0; i < topology_count(); i++)
		if (topology_is_usable(i) && m.count < NODES_MOST)
			add_node(topology_id(i));
	must(m.running > 0, "no node has both memory and processors");
}

static void print_machine(void)
{
	printf("# numa\n\n%s: %u nodes with memory, %u of them with "
	       "processors\n", m.real ? "This machine" : "An invented machine",
	       m.count, m.running);
}

/* ------------------------------------------------------------------ pools */

static void open_pool(enum seg_policy policy, uint64_t node_limit_bytes)
{
	struct seg_budget_options b = { .size = sizeof(b),
					.limit_bytes = UINT64_C(64) << 20 };
	struct seg_pool_options o = {
		.size = sizeof(o), .policy = policy,
		.region_bytes = REGION_BYTES, .decay_ms = 600000,
		.wait_ms = SEG_NO_WAIT, .node = m.node[m.count - 1],
		.node_limit_bytes = node_limit_bytes,
	};

	must(!seg_budget_create(&b, &budget), "no budget");
	o.budget = budget;
	must(!seg_pool_create(&o, &pool), "no pool");
}

static void close_pool(void)
{
	must(!seg_pool_destroy(pool), "something is left in the pool");
	must(!seg_budget_destroy(budget), "something is left in the budget");
}

static struct seg_pool_stats stats(void)
{
	struct seg_pool_stats s = { .size = sizeof(s) };

	must(!seg_pool_stats(pool, SEG_ALL, SEG_ALL, &s), "no statistics");
	return s;
}

static int node_of(const void *segment)
{
	struct seg_region_info info = { .size = sizeof(info) };

	must(!seg_region_of(pool, segment, &info), "a segment of no region");
	return info.node;
}

/* --------------------------------------------------------------- policies */

struct policy_case {
	const char *name;
	enum seg_policy policy;
	uint64_t node_limit_bytes;
	bool released_elsewhere;
};

/* Half of what a node's threads ask for. */
enum { HALF = SEGMENTS * SEGMENT_BYTES / 2 };

static const struct policy_case policy_cases[] = {
	{ "local-first", SEG_POLICY_LOCAL, 0, false },
	{ "local-first, released by another node's thread", SEG_POLICY_LOCAL,
	  0, true },
	{ "local-first, room for half", SEG_POLICY_LOCAL, HALF,
	  false },
	{ "strict", SEG_POLICY_STRICT, 0, false },
	{ "strict, room for half", SEG_POLICY_STRICT, HALF, false },
	{ "preferred: the last node", SEG_POLICY_PREFERRED, 0, false },
	{ "preferred, room for half", SEG_POLICY_PREFERRED, HALF,
	  false },
	{ "interleave", SEG_POLICY_INTERLEAVE, 0, false },
	{ "given node: the last one", SEG_POLICY_NODE, 0, false },
};

static void *held[NODES_MOST][SEGMENTS];

static void allocate_all(void)
{
	for (unsigned i = 0; i < m.running; i++) {
		run_at(m.node[i]);
		for (unsigned k = 0; k < SEGMENTS; k++)
			held[i][k] = seg_alloc(pool, SEGMENT_BYTES);
	}
}

static void release_all(bool elsewhere)
{
	for (unsigned i = 0; i < m.running; i++) {
		run_at(m.node[(i + elsewhere) % m.running]);
		for (unsigned k = 0; k < SEGMENTS; k++)
			must(!seg_release(pool, held[i][k]), "release");
	}
}

static double percent(uint64_t part, uint64_t whole)
{
	return whole ? 100.0 * (double)part / (double)whole : 0;
}

static void try_policy(const struct policy_case *c)
{
	struct seg_pool_stats s;
	uint64_t regions, got;

	open_pool(c->policy, c->node_limit_bytes);
	allocate_all();
	regions = stats().regions;
	release_all(c->released_elsewhere);
	s = stats();
	got = s.allocations_total;
	printf("| %s | %" PRIu64 " | %" PRIu64 " | %.1f | %.1f | %.1f | %"
	       PRIu64 " | %" PRIu64 " |\n", c->name, got, s.refusals_total,
	       percent(got - s.remote_allocations_total, got),
	       percent(s.remote_allocations_total, got),
	       percent(s.fallbacks_total, got), s.remote_releases_total,
	       regions);
	close_pool();
}

static void try_policies(void)
{
	printf("\n## Segments of %d KiB, %d asked for on each node with "
	       "processors\n\n| policy | served | refused | local %% | remote "
	       "%% | fallback %% | cross-node releases | regions |\n"
	       "|---|---|---|---|---|---|---|---|\n", SEGMENT_BYTES / 1024,
	       SEGMENTS);
	for (size_t i = 0; i < sizeof(policy_cases) / sizeof(policy_cases[0]);
	     i++)
		try_policy(&policy_cases[i]);
}

/* ------------------------------------------------------------------ reads */

/* The reader of a page in a round: a rank among the running nodes. */
typedef unsigned reader_fn(unsigned key, unsigned round);

static unsigned one_each(unsigned key, unsigned round)
{
	(void)round;
	return key % m.running;
}

static unsigned one_each_then_another(unsigned key, unsigned round)
{
	return (key + (round >= ROUNDS / 2)) % m.running;
}

static unsigned mostly_one(unsigned key, unsigned round)
{
	return round % 16 == 15 ? (key + 1) % m.running : key % m.running;
}

static unsigned all_in_turn(unsigned key, unsigned round)
{
	return (key + round) % m.running;
}

static const struct {
	const char *name;
	reader_fn *reader;
} read_cases[] = {
	{ "each page by one node", one_each },
	{ "by one node, then by another", one_each_then_another },
	{ "15 of 16 by one node", mostly_one },
	{ "by all nodes in turn", all_in_turn },
};

static struct seg_cache *open_cache(unsigned migrate_after)
{
	struct seg_cache_options o = {
		.size = sizeof(o), .pages = pool, .budget = budget,
		.max_weight = 2 * PAGES * SEGMENT_BYTES,
		.migrate_after = migrate_after,
	};
	const size_t bytes = SEGMENT_BYTES;
	struct seg_page *page;
	struct seg_cache *c;

	must(!seg_cache_create(&o, &c), "no cache");
	run_at(m.node[0]);
	for (uint64_t key = 0; key < PAGES; key++)
		must(!seg_page_create(pool, &bytes, 1, &page) &&
		     !seg_cache_put(c, key, page, 0, NULL), "no page");
	return c;
}

/* Whether it came from another node. */
static bool read_page(struct seg_cache *c, uint64_t key, int node)
{
	struct seg_pin pin;
	bool crosses;

	must(!seg_cache_get(c, key, &pin), "a page is not there");
	crosses = node_of(seg_page_part(seg_pin_value(&pin), 0)) != node;
	must(!seg_unpin(&pin), "unpin");
	return crosses;
}

static uint64_t read_all(struct seg_cache *c, reader_fn *reader)
{
	uint64_t crossing = 0;

	for (unsigned round = 0; round < ROUNDS; round++)
		for (unsigned i = 0; i < m.running; i++) {
			run_at(m.node[i]);
			for (unsigned key = 0; key < PAGES; key++)
				if (reader(key, round) == i)
					crossing += read_page(c, key,
							      m.node[i]);
		}
	return crossing;
}

static void try_reads(const char *name, reader_fn *reader,
		      unsigned migrate_after)
{
	struct seg_cache_stats s = { .size = sizeof(s) };
	struct seg_cache *c;
	uint64_t crossing;

	open_pool(SEG_POLICY_LOCAL, 0);
	c = open_cache(migrate_after);
	crossing = read_all(c, reader);
	must(!seg_cache_stats(c, &s), "no statistics");
	printf("| %s | %u | %" PRIu64 " | %.1f | %" PRIu64 " | %.2f | %" PRIu64
	       " |\n", name, migrate_after, s.hits_total,
	       percent(crossing, s.hits_total), s.migrations_total,
	       (double)s.migrated_bytes_total / (1 << 20),
	       s.migrations_refused_total);
	must(!seg_cache_destroy(c), "the cache does not end");
	close_pool();
}

static void try_all_reads(void)
{
	printf("\n## A cache of %d pages of %d KiB, all filled by one node\n\n"
	       "| read | migrate_after | reads | cross-node %% | migrations | "
	       "MiB copied | refused |\n|---|---|---|---|---|---|---|\n",
	       PAGES, SEGMENT_BYTES / 1024);
	for (size_t i = 0; i < sizeof(read_cases) / sizeof(read_cases[0]);
	     i++) {
		try_reads(read_cases[i].name, read_cases[i].reader, 0);
		try_reads(read_cases[i].name, read_cases[i].reader, AFTER);
	}
}

int main(void)
{
	find_machine();
	print_machine();
	try_policies();
	try_all_reads();
	if (!m.real)
		machine_end();
	return 0;
}
