// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * KUnit tests of Steering Tags, included by st.c
 *
 * There is no device: the table is an array.
 */
#include <kunit/static_stub.h>
#include <kunit/test.h>

#define ST_TEST_ENTRIES	4	/* of which the first one is reserved */

struct st_test {
	struct mlx5_core_dev *dev;
	u16 table[ST_TEST_ENTRIES];
	unsigned int writes;
	int write_ret;
};

static int st_test_write(struct mlx5_core_dev *dev, u16 st_index, u16 tag)
{
	struct kunit *test = kunit_get_current_test();
	struct st_test *t = test->priv;

	KUNIT_EXPECT_PTR_EQ(test, dev, t->dev);
	KUNIT_ASSERT_GT(test, st_index, MLX5_MKC_PCIE_TPH_NO_STEERING_TAG_INDEX);
	KUNIT_ASSERT_LT(test, st_index, ST_TEST_ENTRIES);
	if (t->write_ret)
		return t->write_ret;

	t->writes++;
	t->table[st_index] = tag;
	return 0;
}

static u16 st_test_alloc(struct kunit *test, u16 tag)
{
	struct st_test *t = test->priv;
	u16 index = 0xffff;

	KUNIT_ASSERT_EQ(test, mlx5_st_alloc_index_by_tag(t->dev, tag, &index),
			0);
	return index;
}

static void st_test_free(struct kunit *test, u16 index)
{
	struct st_test *t = test->priv;

	KUNIT_EXPECT_EQ(test, mlx5_st_dealloc_index(t->dev, index), 0);
}

static void st_test_fails(struct kunit *test, u16 tag, int ret)
{
	struct st_test *t = test->priv;
	u16 index = 0xa5a5;

	KUNIT_EXPECT_EQ(test, mlx5_st_alloc_index_by_tag(t->dev, tag, &index),
			ret);
	KUNIT_EXPECT_EQ(test, index, 0xa5a5);
}

/* Each tag is in the table once, as long as somebody uses it. */
static void st_table(struct kunit *test)
{
	struct st_test *t = test->priv;
	u16 a, b, again;

	a = st_test_alloc(test, 0x41);
	b = st_test_alloc(test, 0x1234);
	KUNIT_EXPECT_NE(test, a, b);
	KUNIT_EXPECT_EQ(test, t->table[a], 0x41);
	KUNIT_EXPECT_EQ(test, t->table[b], 0x1234);

	again = st_test_alloc(test, 0x41);
	KUNIT_EXPECT_EQ(test, again, a);
	KUNIT_EXPECT_EQ(test, t->writes, 2);

	/* The one that is left keeps it. */
	st_test_free(test, a);
	again = st_test_alloc(test, 0x41);
	KUNIT_EXPECT_EQ(test, again, a);
	KUNIT_EXPECT_EQ(test, t->writes, 2);

	st_test_free(test, a);
	st_test_free(test, a);
	st_test_free(test, b);
}

/* An index that nobody uses is for another tag. */
static void st_table_reuse(struct kunit *test)
{
	struct st_test *t = test->priv;
	u16 a, b;

	a = st_test_alloc(test, 0x41);
	st_test_free(test, a);
	b = st_test_alloc(test, 0x42);
	KUNIT_EXPECT_EQ(test, b, a);
	KUNIT_EXPECT_EQ(test, t->table[b], 0x42);
	st_test_free(test, b);

	/* 0 is a tag as any other. */
	a = st_test_alloc(test, 0);
	KUNIT_EXPECT_NE(test, a, MLX5_MKC_PCIE_TPH_NO_STEERING_TAG_INDEX);
	KUNIT_EXPECT_EQ(test, t->table[a], 0);
	st_test_free(test, a);
}

static void st_table_full(struct kunit *test)
{
	u16 index[ST_TEST_ENTRIES];
	int i;

	for (i = 1; i < ST_TEST_ENTRIES; i++)
		index[i] = st_test_alloc(test, i);
	st_test_fails(test, ST_TEST_ENTRIES, -EBUSY);

	/* Not for who wants what is there */
	st_test_alloc(test, 1);
	st_test_free(test, index[1]);

	st_test_free(test, index[2]);
	index[2] = st_test_alloc(test, ST_TEST_ENTRIES);
	for (i = 1; i < ST_TEST_ENTRIES; i++)
		st_test_free(test, index[i]);
}

/* What could not be written is not there. */
static void st_table_write_fails(struct kunit *test)
{
	struct st_test *t = test->priv;
	int i;

	t->write_ret = -EIO;
	for (i = 0; i < 2 * ST_TEST_ENTRIES; i++)
		st_test_fails(test, 0x41, -EIO);
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->dev->st->idx_xa));

	t->write_ret = 0;
	st_test_free(test, st_test_alloc(test, 0x41));
	KUNIT_EXPECT_EQ(test, t->writes, 1);
}

/* One that is freed more often than allocated */
static void st_table_unbalanced(struct kunit *test)
{
	struct st_test *t = test->priv;
	u16 index = st_test_alloc(test, 0x41);

	st_test_free(test, index);
	kunit_warning_suppress(test) {
		KUNIT_EXPECT_EQ(test, mlx5_st_dealloc_index(t->dev, index),
				-EINVAL);
	}
}

/* Without a table the index is the tag, and there is nothing to keep. */
static void st_direct(struct kunit *test)
{
	struct st_test *t = test->priv;
	static const u16 tags[] = { 0, 1, 0xf0, 0xff };
	int i;

	t->dev->st->direct_mode = 1;
	for (i = 0; i < ARRAY_SIZE(tags); i++) {
		KUNIT_EXPECT_EQ(test, st_test_alloc(test, tags[i]), tags[i]);
		st_test_free(test, tags[i]);
	}
	KUNIT_EXPECT_EQ(test, t->writes, 0);
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->dev->st->idx_xa));
}

/* The field of the mkey has 8 bits; a tag that is cut is another one. */
static void st_direct_wide(struct kunit *test)
{
	struct st_test *t = test->priv;

	t->dev->st->direct_mode = 1;
	st_test_fails(test, 0x100, -EOPNOTSUPP);
	st_test_fails(test, 0x1234, -EOPNOTSUPP);
	st_test_fails(test, 0xffff, -EOPNOTSUPP);
}

/* Below no Root Port CPUs have no tags, and so no index. */
static void st_cpu_fails(struct kunit *test)
{
	struct st_test *t = test->priv;
	u16 index = 0xa5a5;

	t->dev->pdev = kunit_kzalloc(test, sizeof(*t->dev->pdev), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t->dev->pdev);
	t->dev->pdev->bus = kunit_kzalloc(test, sizeof(*t->dev->pdev->bus),
					  GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t->dev->pdev->bus);

	KUNIT_EXPECT_EQ(test, mlx5_st_alloc_index(t->dev, TPH_MEM_TYPE_VM, 0,
						  &index), -ENODEV);
	KUNIT_EXPECT_EQ(test, index, 0xa5a5);
	KUNIT_EXPECT_EQ(test, t->writes, 0);
}

static void st_none(struct kunit *test)
{
	struct st_test *t = test->priv;
	struct mlx5_st *st = t->dev->st;
	u16 index = 0xa5a5;

	t->dev->st = NULL;
	st_test_fails(test, 0x41, -EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, mlx5_st_alloc_index(t->dev, TPH_MEM_TYPE_VM, 0,
						  &index), -EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, index, 0xa5a5);
	KUNIT_EXPECT_EQ(test, mlx5_st_dealloc_index(t->dev, 1), -EOPNOTSUPP);
	t->dev->st = st;
}

static int st_test_init(struct kunit *test)
{
	struct st_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	struct mlx5_st *st;

	if (!t)
		return -ENOMEM;

	t->dev = kunit_kzalloc(test, sizeof(*t->dev), GFP_KERNEL);
	st = kunit_kzalloc(test, sizeof(*st), GFP_KERNEL);
	if (!t->dev || !st)
		return -ENOMEM;

	mlx5_st_init(st, false, ST_TEST_ENTRIES);
	t->dev->st = st;
	test->priv = t;
	kunit_activate_static_stub(test, mlx5_st_write, st_test_write);
	return 0;
}

static void st_test_exit(struct kunit *test)
{
	struct st_test *t = test->priv;

	/* All that has been allocated is freed. */
	if (t)
		KUNIT_EXPECT_TRUE(test, xa_empty(&t->dev->st->idx_xa));
}

static struct kunit_case st_test_cases[] = {
	KUNIT_CASE(st_table),
	KUNIT_CASE(st_table_reuse),
	KUNIT_CASE(st_table_full),
	KUNIT_CASE(st_table_write_fails),
	KUNIT_CASE(st_table_unbalanced),
	KUNIT_CASE(st_direct),
	KUNIT_CASE(st_direct_wide),
	KUNIT_CASE(st_cpu_fails),
	KUNIT_CASE(st_none),
	{}
};

static struct kunit_suite st_test_suite = {
	.name = "mlx5-st",
	.init = st_test_init,
	.exit = st_test_exit,
	.test_cases = st_test_cases,
};

kunit_test_suite(st_test_suite);
