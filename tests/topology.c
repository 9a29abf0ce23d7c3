/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the library knows of memory nodes: which there are, which may be used,
 * which is near, on machines of all shapes.  The system is tests/machine.c.
 */
#include "pools.h"

#include <stdatomic.h>

#include "machine.h"
#include "topology.h"

static void use(const int *nodes, unsigned count)
{
	machine_begin(nodes, count);
	topology_check();
}

#define USE(...)                                                               \
	use((const int[]){ __VA_ARGS__ },                                      \
	    sizeof((const int[]){ __VA_ARGS__ }) / sizeof(int))

static int end(void **state)
{
	(void)state;
	machine_end();
	return 0;
}

static unsigned index_of(int id)
{
	unsigned index = TOPOLOGY_NODES;

	assert_true(topology_find(id, &index));
	assert_int_equal(topology_id(index), id);
	return index;
}

/* The usable nodes as seen from one, nearest first, as numbers. */
static void assert_order(int from, const int *order, unsigned count)
{
	unsigned near;

	for (unsigned k = 0; k < count; k++) {
		assert_true(topology_near(index_of(from), k, &near));
		assert_int_equal(topology_id(near), order[k]);
	}
	assert_false(topology_near(index_of(from), count, &near));
}

#define ASSERT_ORDER(from, ...)                                                \
	assert_order(from, (const int[]){ __VA_ARGS__ },                       \
		     sizeof((const int[]){ __VA_ARGS__ }) / sizeof(int))

static int here(void)
{
	return topology_id(topology_here());
}

static void test_no_numa(void **state)
{
	struct machine_calls calls;

	(void)state;
	machine_begin(NULL, 0);
	machine_hide(true);
	for (int i = 0; i < 3; i++)
		topology_check();
	assert_int_equal(topology_count(), 1);
	assert_false(topology_has_many());
	assert_true(topology_is_usable(index_of(0)));
	assert_int_equal(here(), 0);
	ASSERT_ORDER(0, 0);
	assert_int_equal(topology_turn(0), 0);
	assert_int_equal(topology_turn(17), 0);
	/* And nothing is asked any more. */
	calls = machine_calls();
	assert_int_equal(calls.allowed, 1);
}

static void test_one_node(void **state)
{
	(void)state;
	USE(5);
	assert_int_equal(topology_count(), 1);
	assert_false(topology_has_many());
	assert_int_equal(here(), 5);
	ASSERT_ORDER(5, 5);
	assert_int_equal(topology_id(topology_turn(3)), 5);
	assert_false(topology_find(0, &(unsigned){ 0 }));
}

static void test_numbers_have_holes(void **state)
{
	(void)state;
	USE(0, 2);
	assert_int_equal(topology_count(), 2);
	assert_true(topology_has_many());
	assert_false(topology_find(1, &(unsigned){ 0 }));
	assert_false(topology_find(-1, &(unsigned){ 0 }));
	assert_false(topology_find(NUMA_IDS, &(unsigned){ 0 }));
	ASSERT_ORDER(0, 0, 2);
	ASSERT_ORDER(2, 2, 0);
	machine_run_on(0);
	assert_int_equal(here(), 0);
	machine_run_on(1);
	assert_int_equal(here(), 2);
	for (unsigned k = 0; k < 8; k++)
		assert_int_equal(topology_id(topology_turn(k)), k % 2 * 2);
}

static void test_largest_numbers(void **state)
{
	(void)state;
	USE(0, 63, 64, 1023);
	ASSERT_ORDER(1023, 1023, 0, 63, 64);
	ASSERT_ORDER(64, 64, 0, 63, 1023);
	machine_run_on(3);
	assert_int_equal(here(), 1023);
}

/* CPUs of a node that has no memory for us: what is near counts from there. */
static void test_cpus_without_memory(void **state)
{
	(void)state;
	machine_begin((const int[]){ 0, 2 }, 2);
	machine_put_cpu(7, 1);
	machine_set_distance(1, 0, 30);
	machine_set_distance(1, 2, 15);
	topology_check();
	assert_int_equal(topology_count(), 2);
	machine_run_on(7);
	assert_int_equal(here(), 1);
	assert_int_equal(topology_count(), 3);
	assert_false(topology_is_usable(index_of(1)));
	ASSERT_ORDER(1, 2, 0);
	ASSERT_ORDER(0, 0, 2);
	/* It is asked once for each CPU. */
	for (int i = 0; i < 3; i++)
		assert_int_equal(here(), 1);
	assert_int_equal(machine_calls().cpu_and_node, 1);
}

static void test_memory_without_cpus(void **state)
{
	(void)state;
	machine_begin((const int[]){ 0, 1, 4 }, 3);
	for (unsigned cpu = 0; cpu < 16; cpu++)
		machine_put_cpu(cpu, (int)cpu % 2);
	machine_set_distance(0, 4, 17);
	topology_check();
	for (unsigned cpu = 0; cpu < 16; cpu++) {
		machine_run_on(cpu);
		assert_int_equal(here(), (int)cpu % 2);
	}
	ASSERT_ORDER(0, 0, 4, 1);
	ASSERT_ORDER(1, 1, 0, 4);
	ASSERT_ORDER(4, 4, 0, 1);
}

static void test_nearest_first(void **state)
{
	(void)state;
	machine_begin((const int[]){ 0, 1, 2, 3 }, 4);
	machine_set_distance(0, 1, 40);
	machine_set_distance(0, 2, 30);
	machine_set_distance(0, 3, 11);
	machine_set_distance(3, 0, 12);	/* not the same in both directions */
	machine_set_distance(3, 1, 11);
	topology_check();
	ASSERT_ORDER(0, 0, 3, 2, 1);
	ASSERT_ORDER(3, 3, 1, 0, 2);
	ASSERT_ORDER(1, 1, 0, 2, 3);
}

/* Emulated nodes are no farther from each other than from themselves; and a
 * system may tell nothing at all, or nonsense. */
static void test_a_node_is_the_nearest_to_itself(void **state)
{
	static const unsigned equal[] = { 10, 0, 1, 255 };

	(void)state;
	for (unsigned d = 0; d < 4; d++) {
		machine_begin((const int[]){ 0, 1, 2 }, 3);
		for (int i = 0; i < 9; i++)
			machine_set_distance(i / 3, i % 3, equal[d]);
		machine_set_distance(1, 1, 200);
		topology_check();
		ASSERT_ORDER(0, 0, 1, 2);
		ASSERT_ORDER(1, 1, 0, 2);
		ASSERT_ORDER(2, 2, 0, 1);
	}
}

static void test_what_is_not_told_is_far(void **state)
{
	(void)state;
	machine_begin((const int[]){ 0, 1, 2 }, 3);
	machine_set_distance(0, 1, 0);
	machine_set_distance(0, 2, 254);
	topology_check();
	ASSERT_ORDER(0, 0, 2, 1);
}

static void test_nodes_come_and_go(void **state)
{
	uint32_t changes;
	unsigned two;

	(void)state;
	USE(0, 1, 2);
	two = index_of(2);
	changes = topology_changes();
	topology_check();
	assert_int_equal(topology_changes(), changes);
	machine_allow(2, false);
	assert_true(topology_is_usable(two));
	topology_check();
	assert_int_not_equal(topology_changes(), changes);
	assert_false(topology_is_usable(two));
	ASSERT_ORDER(0, 0, 1);
	ASSERT_ORDER(2, 0, 1);
	for (unsigned k = 0; k < 6; k++)
		assert_int_not_equal(topology_turn(k), two);
	machine_allow(2, true);
	machine_allow(7, true);
	topology_check();
	assert_int_equal(index_of(2), two);
	assert_int_equal(index_of(7), 3);
	ASSERT_ORDER(7, 7, 0, 1, 2);
	ASSERT_ORDER(2, 2, 0, 1, 7);
}

/* Another set of the same size is noticed; and all of them replaced. */
static void test_another_set(void **state)
{
	(void)state;
	USE(0, 1);
	machine_allow(0, false);
	machine_allow(3, true);
	topology_check();
	ASSERT_ORDER(0, 1, 3);
	machine_allow(1, false);
	topology_check();
	ASSERT_ORDER(0, 3);
	assert_int_equal(topology_id(topology_turn(0)), 3);
	assert_true(topology_has_many());
}

/* There was one, and more come. */
static void test_from_one_to_many(void **state)
{
	(void)state;
	USE(1);
	assert_false(topology_has_many());
	machine_allow(0, true);
	topology_check();
	assert_true(topology_has_many());
	assert_int_equal(index_of(1), 0);
	assert_int_equal(index_of(0), 1);
	ASSERT_ORDER(1, 1, 0);
}

/* The last answer counts for as long as there is no other. */
static void test_the_system_says_nothing(void **state)
{
	(void)state;
	USE(0, 3);
	machine_hide(true);
	topology_check();
	ASSERT_ORDER(3, 3, 0);
	machine_hide(false);
	machine_allow(0, false);
	machine_allow(3, false);
	topology_check();
	ASSERT_ORDER(3, 3, 0);
	machine_allow(3, true);
	topology_check();
	ASSERT_ORDER(3, 3);
}

static void test_no_memory_at_first(void **state)
{
	(void)state;
	machine_begin(NULL, 0);
	topology_check();
	assert_int_equal(topology_count(), 1);
	ASSERT_ORDER(0, 0);
}

static void test_more_than_64_nodes(void **state)
{
	int node[100];
	unsigned near;

	(void)state;
	for (int i = 0; i < 100; i++)
		node[i] = 3 * i;
	use(node, 100);
	assert_int_equal(topology_count(), TOPOLOGY_NODES);
	for (unsigned k = 0; k < TOPOLOGY_NODES; k++) {
		assert_int_equal(topology_id(topology_turn(k)), 3 * (int)k);
		assert_true(topology_near(63, k, &near));
	}
	assert_false(topology_near(63, TOPOLOGY_NODES, &near));
	assert_false(topology_find(3 * 64, &near));
	/* Who runs on one of the others is somewhere. */
	machine_run_on(64);
	assert_true(topology_here() < TOPOLOGY_NODES);
	machine_run_on(63);
	assert_int_equal(here(), 3 * 63);
}

static void test_large_cpu_numbers(void **state)
{
	(void)state;
	machine_begin((const int[]){ 0, 1, 2 }, 3);
	machine_put_cpu(0, 1);
	machine_put_cpu(TOPOLOGY_CPUS - 1, 1);
	machine_put_cpu(TOPOLOGY_CPUS, 2);
	machine_put_cpu(TOPOLOGY_CPUS + 1, 0);
	topology_check();
	for (int round = 0; round < 2; round++) {
		machine_run_on(TOPOLOGY_CPUS);
		assert_int_equal(here(), 2);
		machine_run_on(0);
		assert_int_equal(here(), 1);
		machine_run_on(TOPOLOGY_CPUS - 1);
		assert_int_equal(here(), 1);
		machine_run_on(TOPOLOGY_CPUS + 1);
		assert_int_equal(here(), 0);
	}
}

/* ---- many look while it changes ---- */

static atomic_bool over;

static void *look(void *arg)
{
	unsigned near, looks = 0;

	(void)arg;
	do {
		unsigned from = topology_here();
		unsigned count = topology_count();

		machine_run_on(looks++ % 64);
		require(from < count &&
			topology_turn(looks) < topology_count());
		for (unsigned k = 0; topology_near(from, k, &near); k++)
			require(near < topology_count());
		require(topology_find(topology_id(from), &near) &&
			near == from);
		topology_check();
	} while (!over);
	return NULL;
}

static void test_looks_while_it_changes(void **state)
{
	struct threads t;

	(void)state;
	USE(0, 1, 2, 3);
	over = false;
	threads_start(&t, 3, look, &t, 0);
	for (int i = 0; i < 400; i++) {
		machine_allow(1 + i % 60, i / 60 % 2);
		topology_check();
		sched_yield();
	}
	over = true;
	assert_int_equal(threads_join(&t), 0);
	topology_check();
	for (unsigned i = 0; i < topology_count(); i++)
		assert_int_equal(index_of(topology_id(i)), i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_no_numa, end),
		cmocka_unit_test_teardown(test_one_node, end),
		cmocka_unit_test_teardown(test_numbers_have_holes, end),
		cmocka_unit_test_teardown(test_largest_numbers, end),
		cmocka_unit_test_teardown(test_cpus_without_memory, end),
		cmocka_unit_test_teardown(test_memory_without_cpus, end),
		cmocka_unit_test_teardown(test_nearest_first, end),
		cmocka_unit_test_teardown(test_a_node_is_the_nearest_to_itself,
					  end),
		cmocka_unit_test_teardown(test_what_is_not_told_is_far, end),
		cmocka_unit_test_teardown(test_nodes_come_and_go, end),
		cmocka_unit_test_teardown(test_another_set, end),
		cmocka_unit_test_teardown(test_from_one_to_many, end),
		cmocka_unit_test_teardown(test_the_system_says_nothing, end),
		cmocka_unit_test_teardown(test_no_memory_at_first, end),
		cmocka_unit_test_teardown(test_more_than_64_nodes, end),
		cmocka_unit_test_teardown(test_large_cpu_numbers, end),
		cmocka_unit_test_teardown(test_looks_while_it_changes, end),
	};

	return run_group(tests);
}
