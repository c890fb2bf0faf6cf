"""Two languages of the console. The English text is the key; a text that is missing here is shown in English."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request

COOKIE = "stardust_console_language"
LANGUAGES = {"en": "English", "zh": "中文"}

_ZH = {
    "Applications": "应用",
    "Traces": "追踪",
    "Trace": "追踪",
    "Configuration": "配置",
    "Sign in": "登录",
    "Sign out": "退出",
    "Administrator's key": "管理密钥",
    "The key is in the address that the server printed when it started, after #key=.": "密钥在服务器启动时打印的地址中，位于 #key= 之后。",
    "This key is wrong.": "密钥错误。",
    "No application yet.": "还没有应用。",
    "Start a program with": "这样启动程序：",
    "Application": "应用",
    "Instances": "实例",
    "Instance": "实例",
    "on line": "在线",
    "off line": "离线",
    "disabled": "已禁用",
    "Calls": "次数",
    "Errors": "错误",
    "Mean": "平均",
    "Max": "最大",
    "Min": "最小",
    "Total time": "总耗时",
    "Last hour": "最近一小时",
    "Version": "版本",
    "Last seen": "最后活动",
    "Started": "启动",
    "Address": "地址",
    "Process": "进程",
    "Memory": "内存",
    "Threads": "线程",
    "Push": "推送",
    "Operations": "操作",
    "Operation": "操作",
    "Kind": "类型",
    "Period": "时段",
    "minutes": "分钟",
    "Recent traces": "最近的追踪",
    "Events": "事件",
    "Time": "时间",
    "Name": "名称",
    "Remark": "备注",
    "Sampling": "采样",
    "Seconds between reports": "上报周期（秒）",
    "Seconds between pings": "心跳周期（秒）",
    "Samples of an operation in a period": "每周期正常采样数",
    "Error samples of an operation in a period": "每周期异常采样数",
    "Slow from (ms)": "慢调用阈值（毫秒）",
    "Excluded operations, one in a line, * and ? are wildcards": "排除的操作，每行一个，可用 * 和 ?",
    "VIP instances (client ids), sampled in full": "重点实例（客户端标识），全量采样",
    "Enabled": "启用",
    "Save": "保存",
    "Secret": "密钥",
    "Issue a new secret at the next login": "下次登录时签发新密钥",
    "Builders that could not be stored": "未能保存的统计",
    "Start": "开始",
    "Duration": "耗时",
    "Spans": "片段",
    "Slowest first": "最慢优先",
    "Latest first": "最新优先",
    "Show": "查看",
    "All applications": "全部应用",
    "No traces yet.": "还没有追踪。",
    "Nothing here yet.": "暂无数据。",
    "Tag": "标签",
    "Error": "错误",
    "Value": "值",
    "Parent": "上级",
    "Span": "片段",
    "Scope": "作用域",
    "all scopes": "全部作用域",
    "Key": "键",
    "Published": "已发布",
    "Staged": "待发布",
    "Comment": "注释",
    "Edit": "编辑",
    "Delete": "删除",
    "Stage": "暂存",
    "Add a value": "添加配置",
    "Changes to publish": "待发布的修改",
    "Publish": "发布",
    "Discard": "放弃",
    "Publish at": "定时发布",
    "planned for": "计划于",
    "Nothing is staged.": "没有待发布的修改。",
    "History": "历史",
    "Roll back to this": "回滚到此版本",
    "changes": "处修改",
    "What an instance gets": "实例得到的配置",
    "Sharing": "共享",
    "Global: every application gets these values": "全局：所有应用都得到这些配置",
    "Others may refer to it by ${key@application}": "允许其它应用以 ${key@应用} 引用",
    "Quoted applications, one in a line": "引用的应用，每行一个",
    "Give each instance a NewLife.WorkerId": "为每个实例分配 NewLife.WorkerId",
    "instances have this version": "个实例已获取此版本",
    "earlier instances": "个更早的实例",
    "Used keys": "使用的键",
    "Missed keys": "缺失的键",
    "Saved.": "已保存。",
    "Staged: publish to make it live.": "已暂存：发布后生效。",
    "Published and pushed to the running instances.": "已发布并推送到运行中的实例。",
    "Discarded.": "已放弃。",
    "Planned.": "已计划。",
    "The next login is issued a new secret.": "下次登录将签发新密钥。",
    "The page has expired: try again.": "页面已过期，请重试。",
    "Not found": "未找到",
    "ago": "前",
    "New application": "新应用",
    "Open": "打开",
}


def language_of(request: Request) -> str:
    """The language of the cookie, else the one the browser prefers, else English."""
    chosen = request.cookies.get(COOKIE, "")
    if chosen in LANGUAGES:
        return chosen
    return "zh" if request.headers.get("accept-language", "").lower().startswith("zh") else "en"


def translate(text: str, language: str) -> str:
    """`text` in a language."""
    return _ZH.get(text, text) if language == "zh" else text
