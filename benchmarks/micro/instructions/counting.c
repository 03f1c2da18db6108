/* What Python asks of callgrind, without a trace of its own in the counts.
 *
 * Outside valgrind the requests do nothing.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <valgrind/callgrind.h>

static PyObject *start(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    CALLGRIND_START_INSTRUMENTATION;
    Py_RETURN_NONE;
}

static PyObject *call(PyObject *Py_UNUSED(module), PyObject *function)
{
    PyObject *result;
    CALLGRIND_TOGGLE_COLLECT;
    result = PyObject_Vectorcall(function, NULL, 0, NULL);
    CALLGRIND_TOGGLE_COLLECT;
    return result;
}

static PyObject *dump(PyObject *Py_UNUSED(module), PyObject *name)
{
    const char *text = PyUnicode_AsUTF8(name);
    if (text == NULL)
        return NULL;
    CALLGRIND_DUMP_STATS_AT(text);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"start", start, METH_NOARGS, "Begin to follow the program, which makes all of it slower."},
    {"call", call, METH_O, "Call a function without arguments and count the instructions of that."},
    {"dump", dump, METH_O, "Write what was counted since the last time, under a name."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "counting", .m_size = -1, .m_methods = functions};

PyMODINIT_FUNC PyInit_counting(void)
{
    return PyModule_Create(&module);
}
