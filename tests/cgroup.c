/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/cgroup.h over files of our own, no control group needed: versions 1 and
 * 2, limits at each level, containers, and all that can be missing.  Then a
 * budget that follows them.
 */
#define _GNU_SOURCE
#include "testing.h"

#include <ftw.h>
#include <sys/stat.h>

#include "budget.h"
#include "budget_follow.h"
#include "cgroup.h"
#include "os.h"

enum { KIB = 1024, MIB = 1024 * KIB, PATH_BYTES = 512,
       LOWERINGS = 20000 };

static struct atomic_u32 stop;
static char root[] = "/tmp/seg-cgroup-XXXXXX";

static const char mounts_v2[] =
	"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
	"30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
static const char mounts_v1[] =
	"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
	"31 22 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
	"32 22 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";

/* Files below the root, with the directories above them. */
static void put(const char *name, const char *text)
{
	char path[PATH_BYTES];
	FILE *file;

	snprintf(path, sizeof(path), "%s%s", root, name);
	for (char *at = path + sizeof(root); (at = strchr(at, '/')) != NULL;
	     *at++ = '/') {
		*at = '\0';
		assert_true(!mkdir(path, 0700) || errno == EEXIST);
	}
	file = fopen(path, "w");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static int unlink_one(const char *path, const struct stat *st, int type,
		      struct FTW *ftw)
{
	(void)st;
	(void)type;
	return ftw->level ? remove(path) : 0;
}

static int clear_root(void **state)
{
	(void)state;
	return nftw(root, unlink_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* What is seen by one that opens them now. */
static uint64_t limit_now(void)
{
	struct cgroup *cg = NULL;
	uint64_t limit;

	assert_int_equal(cgroup_open(root, &cg), 0);
	limit = cgroup_limit(cg);
	cgroup_close(cg);
	return limit;
}

static void test_nothing_is_mounted(void **state)
{
	struct cgroup *cg = NULL;

	(void)state;
	assert_int_equal(cgroup_open(root, &cg), -ENOENT);
	put("/proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n");
	assert_int_equal(cgroup_open(root, &cg), -ENOENT);
	put("/proc/self/mountinfo", "no sense\n\n30 - cgroup2\n- - - - - -\n");
	assert_int_equal(cgroup_open(root, &cg), -ENOENT);
	put("/proc/self/mountinfo",
	    "31 22 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n");
	assert_int_equal(cgroup_open(root, &cg), -ENOENT);
	assert_null(cg);
}

/* The lowest on the way up counts, memory.high as well. */
static void test_version_2(void **state)
{
	(void)state;
	put("/proc/self/mountinfo", mounts_v2);
	put("/proc/self/cgroup", "0::/user/job\n");
	assert_int_equal(limit_now(), CGROUP_NO_LIMIT);
	put("/sys/fs/cgroup/user/job/memory.max", "max\n");
	assert_int_equal(limit_now(), CGROUP_NO_LIMIT);
	put("/sys/fs/cgroup/user/job/memory.max", "41943040\n");
	assert_int_equal(limit_now(), 40 * MIB);
	put("/sys/fs/cgroup/user/memory.max", "20971520\n");
	assert_int_equal(limit_now(), 20 * MIB);
	put("/sys/fs/cgroup/memory.max", "10485760\n");
	assert_int_equal(limit_now(), 10 * MIB);
	put("/sys/fs/cgroup/user/job/memory.high", "1048576\n");
	assert_int_equal(limit_now(), MIB);
	put("/sys/fs/cgroup/user/job/memory.high", "max\n");
	put("/proc/self/cgroup", "0::/\n");
	assert_int_equal(limit_now(), 10 * MIB);
	put("/sys/fs/memory.max", "4096\n");	/* above what is mounted */
	assert_int_equal(limit_now(), 10 * MIB);
}

static void test_version_1(void **state)
{
	(void)state;
	put("/proc/self/mountinfo", mounts_v1);
	put("/proc/self/cgroup",
	    "5:cpu,cpuacct:/job\n4:memory:/job/a\n0::/x\n");
	put("/sys/fs/cgroup/memory/job/a/memory.limit_in_bytes",
	    "9223372036854771712\n");
	assert_int_equal(limit_now(), CGROUP_NO_LIMIT);
	put("/sys/fs/cgroup/memory/job/a/memory.limit_in_bytes",
	    "9223372036854710272\n");	/* pages of 64 KiB */
	assert_int_equal(limit_now(), CGROUP_NO_LIMIT);
	put("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "8388608\n");
	assert_int_equal(limit_now(), 8 * MIB);
	put("/sys/fs/cgroup/cpu/job/memory.limit_in_bytes", "4096\n");
	put("/sys/fs/cgroup/memory/job/a/memory.max", "4096\n");
	assert_int_equal(limit_now(), 8 * MIB);
}

/* Both are mounted, the memory controller is in one. */
static void test_both_versions(void **state)
{
	char both[sizeof(mounts_v1) + sizeof(mounts_v2)];

	(void)state;
	snprintf(both, sizeof(both), "%s%s", mounts_v1,
		 "33 22 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw");
	put("/proc/self/mountinfo", both);
	put("/proc/self/cgroup", "4:memory:/job\n0::/job\n");
	put("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "8388608\n");
	assert_int_equal(limit_now(), 8 * MIB);
	put("/sys/fs/cgroup/unified/job/memory.max", "4194304\n");
	assert_int_equal(limit_now(), 4 * MIB);
}

/* In a container only a part of the groups is mounted, at its own place. */
static void test_containers(void **state)
{
	(void)state;
	put("/proc/self/mountinfo",
	    "32 22 0:28 /docker/id /sys/fs/cgroup/memory rw - cgroup c "
	    "rw,memory\n"
	    "33 22 0:29 /docker/id /sys/fs/a\\040b rw - cgroup2 c rw\n");
	put("/proc/self/cgroup", "4:memory:/docker/id/job\n0::/docker/id\n");
	put("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "8388608\n");
	assert_int_equal(limit_now(), 8 * MIB);
	put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "6291456\n");
	assert_int_equal(limit_now(), 6 * MIB);
	put("/sys/fs/a b/memory.max", "4194304\n");
	assert_int_equal(limit_now(), 4 * MIB);
	/* not below what is mounted: the mount point is what there is */
	put("/proc/self/cgroup", "4:memory:/docker/idea\n0::/../other\n");
	assert_int_equal(limit_now(), 4 * MIB);
	put("/sys/fs/a b/memory.max", "max\n");
	assert_int_equal(limit_now(), 6 * MIB);
}

/* What can't be understood is no limit, and no error. */
static void test_what_makes_no_sense_is_no_limit(void **state)
{
	static const char *const texts[] = { "", "\n", "-5\n", "x", "12 13\n",
					     "0x100\n" };

	(void)state;
	put("/proc/self/mountinfo", mounts_v2);
	assert_int_equal(limit_now(), CGROUP_NO_LIMIT);	/* no such file */
	put("/proc/self/cgroup", "0:/job\nfoo\n::\n0::/job");
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		put("/sys/fs/cgroup/job/memory.max", texts[i]);
		assert_int_equal(limit_now(), CGROUP_NO_LIMIT);
	}
	put("/sys/fs/cgroup/job/memory.max", "4096");
	assert_int_equal(limit_now(), 4096);
	put("/sys/fs/cgroup/job/memory.max", "99999999999999999999999\n");
	assert_int_equal(limit_now(), CGROUP_NO_LIMIT);
}

/* The group that the process is in is read each time. */
static void test_the_process_may_move(void **state)
{
	struct cgroup *cg = NULL;

	(void)state;
	put("/proc/self/mountinfo", mounts_v2);
	put("/proc/self/cgroup", "0::/a\n");
	put("/sys/fs/cgroup/a/memory.max", "8192\n");
	put("/sys/fs/cgroup/b/memory.max", "16384\n");
	assert_int_equal(cgroup_open(root, &cg), 0);
	assert_int_equal(cgroup_limit(cg), 8192);
	put("/proc/self/cgroup", "0::/b\n");
	assert_int_equal(cgroup_limit(cg), 16384);
	cgroup_close(cg);
}

/* ------------------------------------------------------ a budget follows */

static void put_limit(const char *bytes)
{
	put("/proc/self/mountinfo", mounts_v2);
	put("/proc/self/cgroup", "0::/job\n");
	put("/sys/fs/cgroup/job/memory.max", bytes);
}

static uint64_t limit_of(struct seg_budget *b)
{
	return budget_stats(b).limit_bytes;
}

/* Ends by the watchdog if that never is. */
static void await_limit(struct seg_budget *b, uint64_t bytes)
{
	budget_follow_kick(b);
	while (limit_of(b) != bytes)
		sched_yield();
}

static void test_a_budget_follows(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);

	(void)state;
	put_limit("41943040\n");
	assert_int_equal(budget_follow(b, root, 50), 0);
	assert_int_equal(limit_of(b), 20 * MIB);
	assert_int_equal(budget_stats(b).cgroup_bytes, 40 * MIB);
	put_limit("max\n");
	await_limit(b, 64 * MIB);
	assert_int_equal(budget_stats(b).cgroup_bytes, 0);
	put_limit("1\n");
	await_limit(b, BUDGET_UNIT);
	put_limit("819200000\n");
	await_limit(b, 64 * MIB);
	assert_int_equal(seg_budget_set_limit(b, 8 * MIB), 0);
	assert_int_equal(limit_of(b), 8 * MIB);
	put_limit("max\n");
	await_limit(b, 8 * MIB);
	end_budget(b);
}

/* Where more is charged than the group allows: as low as it goes, no lower. */
static void test_more_is_charged_than_allowed(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);

	(void)state;
	put_limit("max\n");
	assert_int_equal(budget_follow(b, root, 100), 0);
	assert_true(budget_charge(b, 6 * MIB));
	put_limit("4194304\n");
	await_limit(b, 6 * MIB);
	assert_false(budget_charge(b, BUDGET_UNIT));
	assert_int_equal(seg_budget_set_limit(b, 5 * MIB), -EBUSY);
	assert_int_equal(seg_budget_set_limit(b, 7 * MIB), 0);
	assert_int_equal(limit_of(b), 6 * MIB);
	budget_uncharge(b, MIB);
	await_limit(b, 5 * MIB);
	budget_uncharge(b, 5 * MIB);
	await_limit(b, 4 * MIB);
	put_limit("max\n");
	await_limit(b, 7 * MIB);
	end_budget(b);
}

/* Goes to and fro between what the limit shall be and one unit more. */
static void *charge_to_and_fro(void *arg)
{
	struct seg_budget *b = arg;

	while (!u32_load_acquire(&stop))
		if (budget_charge(b, BUDGET_UNIT))
			budget_uncharge(b, BUDGET_UNIT);
	return NULL;
}

/* Lowered means lowered: what is charged meanwhile makes it fail. */
static void test_lowering_is_done_or_refused(void **state)
{
	struct seg_budget *b = new_budget(2 * MIB);
	unsigned done = 0, above = 0;
	struct threads t;

	(void)state;
	put_limit("max\n");
	assert_int_equal(budget_follow(b, root, 100), 0);
	assert_true(budget_charge(b, MIB));
	u32_store_relaxed(&stop, 0);
	threads_start(&t, 1, charge_to_and_fro, b, 0);
	for (int i = 0; i < LOWERINGS; i++) {
		assert_int_equal(seg_budget_set_limit(b, 2 * MIB), 0);
		if (seg_budget_set_limit(b, MIB))
			continue;
		done++;
		above += limit_of(b) > MIB;
	}
	u32_store_release(&stop, 1);
	assert_int_equal(threads_join(&t), 0);
	assert_int_equal(above, 0);
	print_message("lowered %u times of %d\n", done, LOWERINGS);
	budget_uncharge(b, MIB);
	end_budget(b);
}

struct cache {
	struct reclaimer reclaimer;	/* first */
	struct seg_budget *budget;
	uint64_t held;
};

static uint64_t cache_give(struct reclaimer *r, uint64_t bytes)
{
	struct cache *c = (struct cache *)r;
	uint64_t given = bytes < c->held ? bytes : c->held;

	c->held -= given;
	budget_uncharge(c->budget, given);
	return given;
}

/* Caches give back though nobody allocates; by no hand of the test's. */
static void test_caches_give_back_to_follow(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct cache c = { .reclaimer.give = cache_give, .budget = b,
			   .held = 6 * MIB };

	(void)state;
	put_limit("max\n");
	assert_int_equal(budget_follow(b, root, 100), 0);
	assert_true(budget_charge(b, c.held));
	reclaim_join(&b->reclaimers, &c.reclaimer);
	put_limit("4194304\n");
	while (limit_of(b) != 4 * MIB)	/* of its own accord */
		os_yield();
	reclaim_leave(&b->reclaimers, &c.reclaimer);
	assert_int_equal(c.held, 4 * MIB);
	budget_uncharge(b, c.held);
	end_budget(b);
}

static void test_nothing_to_follow_is_no_error(void **state)
{
	struct seg_budget *b = new_budget(4 * MIB);

	(void)state;
	assert_int_equal(budget_follow(b, root, 100), 0);
	assert_null(b->follower);
	assert_int_equal(budget_stats(b).cgroup_bytes, 0);
	assert_int_equal(limit_of(b), 4 * MIB);
	end_budget(b);
}

/* The real files, whatever is in them. */
static void test_the_public_option(void **state)
{
	struct seg_budget_options o = { .size = sizeof(o),
					.limit_bytes = 4 * MIB,
					.cgroup_percent = 100 };
	struct seg_budget *b = NULL;

	(void)state;
	assert_int_equal(seg_budget_create(&o, &b), 0);
	assert_true(limit_of(b) <= 4 * MIB);
	end_budget(b);
}

static int use_in_child(void *ctx)
{
	struct seg_budget *b = ctx;

	if (!budget_charge(b, BUDGET_UNIT))
		return 1;
	budget_uncharge(b, BUDGET_UNIT);
	return seg_budget_destroy(b) != 0;
}

/* The thread is not there: nothing follows, and destroy waits for nobody. */
static void test_the_child_of_a_fork(void **state)
{
	struct seg_budget *b = new_budget(4 * MIB);

	(void)state;
	put_limit("max\n");
	assert_int_equal(budget_follow(b, root, 100), 0);
	assert_int_equal(run_in_child(use_in_child, b), 0);
	end_budget(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_nothing_is_mounted, clear_root),
		cmocka_unit_test_teardown(test_version_2, clear_root),
		cmocka_unit_test_teardown(test_version_1, clear_root),
		cmocka_unit_test_teardown(test_both_versions, clear_root),
		cmocka_unit_test_teardown(test_containers, clear_root),
		cmocka_unit_test_teardown(test_what_makes_no_sense_is_no_limit,
					  clear_root),
		cmocka_unit_test_teardown(test_the_process_may_move,
					  clear_root),
		cmocka_unit_test_teardown(test_a_budget_follows, clear_root),
		cmocka_unit_test_teardown(test_more_is_charged_than_allowed,
					  clear_root),
		cmocka_unit_test_teardown(test_lowering_is_done_or_refused,
					  clear_root),
		cmocka_unit_test_teardown(test_caches_give_back_to_follow,
					  clear_root),
		cmocka_unit_test_teardown(test_nothing_to_follow_is_no_error,
					  clear_root),
		cmocka_unit_test_teardown(test_the_public_option, clear_root),
		cmocka_unit_test_teardown(test_the_child_of_a_fork, clear_root),
	};
	int ret;

	if (!mkdtemp(root))
		return TESTING_SKIPPED;
	ret = run_group(tests);
	rmdir(root);
	return ret;
}
