/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the system says of memory nodes, and does with them, on whatever machine
 * this is: one node, several, or a container that lets nobody ask.  What it is
 * not let do is an error that says so; all else holds everywhere.
 */
#define _GNU_SOURCE
#include "pools.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "os.h"
#include "os_numa.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

enum { SEGMENT = 256 << 10, LARGE = 4 << 20, NO_SUCH_NODE = 1023 };

static struct numa_ids ids;

static bool has(int id)
{
	return ids.bits[id / 64] >> id % 64 & 1;
}

static int begin(void **state)
{
	(void)state;
	if (!os_numa.allowed(&ids))
		ids = (struct numa_ids){ .bits = { 1 } };
	return 0;
}

static int next_node(int after)
{
	int id = after + 1;

	while (id < NUMA_IDS && !has(id))
		id++;
	return id;
}

static uint64_t pages_of(size_t bytes)
{
	return bytes / (size_t)sysconf(_SC_PAGESIZE);
}

static char *map(size_t bytes)
{
	char *memory = os_map(bytes, 1 << 21);

	require(memory);
	return memory;
}

/* The system does not let us, or can't: then nothing more is to be seen. */
static bool is_unknown(int ret)
{
	return ret == -EPERM || ret == -ENOSYS;
}

static void assert_all_zero(const char *memory, size_t bytes)
{
	for (size_t at = 0; at < bytes; at++)
		require(!memory[at]);
}

static void test_some_node_is_allowed(void **state)
{
	struct numa_ids got;
	int saved;

	(void)state;
	errno = 77;
	if (os_numa.allowed(&got)) {
		assert_true(next_node(-1) < NUMA_IDS);
		assert_memory_equal(&got, &ids, sizeof(ids));
	}
	saved = errno;
	assert_int_equal(saved, 77);
}

/* As the kernel writes it: 32 bits in each group, the lowest last. */
static void test_allowed_is_what_the_kernel_says(void **state)
{
	char line[4096], *at = NULL;
	FILE *status = fopen("/proc/self/status", "r");
	struct numa_ids got;

	(void)state;
	while (status && !at && fgets(line, sizeof(line), status))
		if (!strncmp(line, "Mems_allowed:", 13))
			at = line + strlen(line);
	if (status)
		fclose(status);
	if (!at || !os_numa.allowed(&got))
		skip();
	for (int word = 0; at > line + 13 && word < NUMA_IDS / 32; word++) {
		uint32_t bits;

		while (at > line + 13 && at[-1] != ',' && at[-1] != '\t')
			at--;
		bits = (uint32_t)strtoul(at, NULL, 16);
		assert_int_equal((uint32_t)(got.bits[word / 2] >>
					    word % 2 * 32), bits);
		at--;
	}
}

static void test_the_cpu_is_where_we_run(void **state)
{
	cpu_set_t was, one;
	int node = -1;

	(void)state;
	if (sched_getaffinity(0, sizeof(was), &was))
		skip();
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &was))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		if (sched_setaffinity(0, sizeof(one), &one))
			continue;
		assert_int_equal(os_numa.cpu(), cpu);
		assert_int_equal(os_numa.cpu_and_node(&node), cpu);
		assert_in_range(node, 0, NUMA_IDS - 1);
	}
	assert_int_equal(sched_setaffinity(0, sizeof(was), &was), 0);
}

static void test_distances(void **state)
{
	(void)state;
	for (int from = next_node(-1); from < NUMA_IDS; from = next_node(from))
		for (int to = next_node(-1); to < NUMA_IDS;
		     to = next_node(to)) {
			unsigned distance = os_numa.distance(from, to);

			assert_true(distance == 0 || distance >= 10);
			if (from == to)
				assert_true(distance == 0 || distance == 10);
		}
	errno = 77;
	assert_int_equal(os_numa.distance(NO_SUCH_NODE, 0), 0);
	assert_int_equal(os_numa.distance(0, NO_SUCH_NODE), 0);
	assert_int_equal(errno, 77);
}

static void test_absent_pages(void **state)
{
	struct numa_pages pages = { 0 };
	char *memory = map(LARGE);
	int ret = os_numa.where(memory, LARGE, 0, &pages);

	(void)state;
	if (!ret) {
		assert_int_equal(pages.absent, pages_of(LARGE));
		assert_int_equal(pages.placed + pages.misplaced, 0);
		memory[0] = 1;
		/* They are added; the same page may come with others. */
		assert_int_equal(os_numa.where(memory, LARGE, 0, &pages), 0);
		assert_true(pages.absent < 2 * pages_of(LARGE));
		assert_int_equal(pages.absent + pages.placed + pages.misplaced,
				 2 * pages_of(LARGE));
	} else {
		assert_true(is_unknown(ret));
	}
	os_unmap(memory, LARGE);
}

/* Half of it is backed before, perhaps elsewhere. */
static void place_on(int node)
{
	struct numa_pages pages = { 0 };
	char *memory = map(SEGMENT);
	int ret = os_numa.bind(memory, SEGMENT, node);

	assert_true(ret == 0 || is_unknown(ret));
	memset(memory, 0, SEGMENT / 2);
	ret = os_numa.place(memory, SEGMENT, node);
	assert_true(ret == 0 || is_unknown(ret));
	assert_all_zero(memory, SEGMENT);
	if (!ret && !os_numa.where(memory, SEGMENT, node, &pages)) {
		assert_int_equal(pages.placed, pages_of(SEGMENT));
		assert_int_equal(pages.misplaced + pages.absent, 0);
	}
	os_unmap(memory, SEGMENT);
}

static void test_each_node_gets_its_memory(void **state)
{
	(void)state;
	for (int id = next_node(-1); id < NUMA_IDS; id = next_node(id))
		place_on(id);
}

/* What lies on one node is moved to the other. */
static void test_memory_moves(void **state)
{
	int from = next_node(-1), to = next_node(from);
	struct numa_pages pages = { 0 };
	char *memory = map(LARGE);

	(void)state;
	if (to == NUMA_IDS || os_numa.place(memory, SEGMENT, from)) {
		os_unmap(memory, LARGE);
		skip();
	}
	assert_int_equal(os_numa.place(memory, SEGMENT, to), 0);
	assert_int_equal(os_numa.where(memory, SEGMENT, to, &pages), 0);
	assert_int_equal(pages.placed, pages_of(SEGMENT));
	assert_int_equal(os_numa.where(memory, SEGMENT, from, &pages), 0);
	assert_int_equal(pages.misplaced, pages_of(SEGMENT));
	assert_all_zero(memory, SEGMENT);
	os_unmap(memory, LARGE);
}

static void test_a_node_that_is_not_there(void **state)
{
	char *memory = map(SEGMENT);

	(void)state;
	if (has(NO_SUCH_NODE))
		skip();
	errno = 77;
	assert_true(os_numa.bind(memory, SEGMENT, NO_SUCH_NODE) <= 0);
	assert_true(os_numa.place(memory, SEGMENT, NO_SUCH_NODE) < 0);
	assert_int_equal(errno, 77);
	os_unmap(memory, SEGMENT);
}

static void test_memory_that_is_not_there(void **state)
{
	char *memory = map(SEGMENT);
	int ret;

	(void)state;
	if (emulated("its kernel has no such calls"))
		skip();
	os_unmap(memory, SEGMENT);
	errno = 77;
	ret = os_numa.place(memory, SEGMENT, next_node(-1));
	assert_true(ret < 0);
	assert_false(is_unknown(ret));
	ret = os_numa.bind(memory, SEGMENT, next_node(-1));
	assert_true(ret < 0);
	assert_int_equal(errno, 77);
}

/* ------------------------------------------------- what may not be called */

struct ban {
	int error;
};

#define IF(value, then)                                                        \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)(value), 0, 1), then
#define LOAD(member)                                                           \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS,                                     \
		 (unsigned)offsetof(struct seccomp_data, member))
#define RETURN(value) BPF_STMT(BPF_RET | BPF_K, (unsigned)(value))

static bool filter(const struct sock_filter *code, unsigned short length)
{
	struct sock_fprog program = {
		.len = length,
		.filter = (struct sock_filter *)(uintptr_t)code,
	};

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static bool ban_nodes(int error)
{
	unsigned no = SECCOMP_RET_ERRNO | (unsigned)error;
	const struct sock_filter code[] = {
		LOAD(nr),
		IF(SYS_mbind, RETURN(no)),
		IF(SYS_move_pages, RETURN(no)),
		IF(SYS_get_mempolicy, RETURN(no)),
		RETURN(SECCOMP_RET_ALLOW),
	};

	return filter(code, sizeof(code) / sizeof(*code));
}

/* On the machines that this runs on, an advice is in the low half. */
static bool ban_populate(void)
{
	const struct sock_filter code[] = {
		LOAD(args[2]),
		IF(MADV_POPULATE_WRITE, LOAD(nr)),
		IF(SYS_madvise, RETURN(SECCOMP_RET_ERRNO | EINVAL)),
		RETURN(SECCOMP_RET_ALLOW),
	};

	return filter(code, sizeof(code) / sizeof(*code));
}

static int child_without_nodes(void *ctx)
{
	const struct ban *ban = ctx;
	struct numa_pages pages = { 0 };
	char *memory = map(SEGMENT);
	struct numa_ids got;

	if (!ban_nodes(ban->error))
		return TESTING_SKIPPED;
	errno = 77;
	require(!os_numa.allowed(&got));
	require(os_numa.bind(memory, SEGMENT, 0) == -ban->error);
	require(os_numa.place(memory, SEGMENT, 0) == -ban->error);
	require(os_numa.where(memory, SEGMENT, 0, &pages) == -ban->error);
	require(errno == 77);
	memset(memory, 'x', SEGMENT);
	return 0;
}

static bool is_backed(char *memory, size_t bytes)
{
	unsigned char in[SEGMENT / 4096];

	require(bytes <= SEGMENT && !mincore(memory, bytes, in));
	for (uint64_t i = 0; i < pages_of(bytes); i++)
		if (!(in[i] & 1))
			return false;
	return true;
}

static int child_of_an_old_kernel(void *ctx)
{
	char *memory = map(SEGMENT);
	int ret;

	(void)ctx;
	if (!ban_populate() ||
	    !madvise(memory, SEGMENT, MADV_POPULATE_WRITE) || errno != EINVAL)
		return TESTING_SKIPPED;
	ret = os_numa.place(memory, SEGMENT, next_node(-1));
	require(ret == 0 || is_unknown(ret));
	require(is_backed(memory, SEGMENT));
	assert_all_zero(memory, SEGMENT);
	return 0;
}

static void judge(int status)
{
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == TESTING_SKIPPED)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_nodes_that_may_not_be_asked_for(void **state)
{
	struct ban ban = { .error = EPERM };

	(void)state;
	judge(run_in_child(child_without_nodes, &ban));
}

static void test_a_system_without_the_calls(void **state)
{
	struct ban ban = { .error = ENOSYS };

	(void)state;
	judge(run_in_child(child_without_nodes, &ban));
}

static void test_an_old_kernel(void **state)
{
	(void)state;
	judge(run_in_child(child_of_an_old_kernel, NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_some_node_is_allowed),
		cmocka_unit_test(test_allowed_is_what_the_kernel_says),
		cmocka_unit_test(test_the_cpu_is_where_we_run),
		cmocka_unit_test(test_distances),
		cmocka_unit_test(test_absent_pages),
		cmocka_unit_test(test_each_node_gets_its_memory),
		cmocka_unit_test(test_memory_moves),
		cmocka_unit_test(test_a_node_that_is_not_there),
		cmocka_unit_test(test_memory_that_is_not_there),
		cmocka_unit_test(test_nodes_that_may_not_be_asked_for),
		cmocka_unit_test(test_a_system_without_the_calls),
		cmocka_unit_test(test_an_old_kernel),
	};

	(void)begin(NULL);
	return run_group(tests);
}
