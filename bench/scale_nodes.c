/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From one memory node to 64, of a machine that is invented. */
#include <stdio.h>

#include "machine.h"
#include "scale.h"

enum { BATCH = 64, NODES_MOST = 64 };

static const unsigned counts[] = { 1, 2, 8, NODES_MOST };
static const char *const columns[] = { "1", "2", "8", "64" };
enum { COLUMNS = sizeof(counts) / sizeof(*counts) };

static struct seg_pool *pool;
static int far_node;

static void pair(void *ctx, unsigned n)
{
	(void)ctx;
	for (unsigned i = 0; i < n; i++) {
		void *segment = seg_alloc(pool, SEG_MIN_BYTES);

		if (!segment || seg_release(pool, segment))
			die("seg_alloc() or seg_release()");
	}
}

/* Of a node that the thread is not on. */
static void far_pair(void *ctx, unsigned n)
{
	(void)ctx;
	for (unsigned i = 0; i < n; i++) {
		void *segment = seg_alloc_on(pool, SEG_MIN_BYTES, far_node);

		if (!segment || seg_release(pool, segment))
			die("seg_alloc_on() or seg_release()");
	}
}

static void batch(void *ctx, unsigned n)
{
	void *segments[BATCH];

	(void)ctx;
	for (unsigned at = 0; at < n; at += BATCH) {
		for (unsigned i = 0; i < BATCH; i++)
			segments[i] = seg_alloc(pool, SEG_MIN_BYTES);
		for (unsigned i = 0; i < BATCH; i++)
			if (!segments[i] || seg_release(pool, segments[i]))
				die("seg_alloc() or seg_release()");
	}
}

static const struct {
	const char *name;
	run_fn *run;
} rows[] = {
	{ "pair", pair },
	{ "64 out, then back, for each", batch },
	{ "pair, of a far node", far_pair },
};
enum { ROWS = sizeof(rows) / sizeof(*rows), CALLS = 1 << 14 };

static double ns[ROWS][COLUMNS], steps[ROWS][COLUMNS];

static void measure_machine(unsigned column, int round)
{
	static int nodes[NODES_MOST];
	struct seg_budget *budget;

	for (int i = 0; i < NODES_MOST; i++)
		nodes[i] = i;
	machine_begin(nodes, counts[column]);
	machine_run_at(0);
	far_node = (int)counts[column] - 1;
	budget = new_budget(UINT64_C(64) << 20);
	pool = new_pool(budget, 0);
	for (unsigned r = 0; r < ROWS; r++) {
		rows[r].run(NULL, CALLS);	/* it has been everywhere */
		ns[r][column] = least_ns(ns[r][column], rows[r].run, NULL,
					 CALLS);
		if (round == 0)
			steps[r][column] = steps_of(rows[r].run, NULL, BATCH);
	}
	end_pool(pool, budget);
	machine_end();
}

void scale_nodes(void)
{
	for (int round = 0; round < ROUNDS; round++)
		for (unsigned i = 0; i < COLUMNS; i++)
			measure_machine(i, round);
	table_begin("memory nodes", columns, COLUMNS, 1);
	for (unsigned r = 0; r < ROWS; r++) {
		table_row(rows[r].name, "ns", ns[r], true);
		if (steps[r][0] > 0)
			table_row(rows[r].name, "instructions", steps[r], true);
	}
}
